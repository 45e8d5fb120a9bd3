/** What a build was made of, as SLSA says it: part of its record, and of `--metadata-file`. */
import { timestampDate } from '@bufbuild/protobuf/wkt';
import { familiarRepository, parseReference, repositoryOf } from '../../reference.ts';
import type { Engine } from '../engine.ts';
import type { BuildHistoryRecord } from './proto/control_pb.ts';

export const PREDICATE_TYPE = 'https://slsa.dev/provenance/v0.2';

const BUILD_TYPE = 'https://mobyproject.org/buildkit@v1';

/** An image that a stage began with. */
export interface Material {
  /** Domain, path and tag or digest. */
  reference: string;
  /** `sha256:…`: of its manifest where that is known, of its config otherwise. */
  digest: string;
  /** `os/architecture` */
  platform: string;
}

/** `images`: ids by whole names. */
export function materialsOf(
  { graph, images: { hostPlatform } }: Engine,
  images: ReadonlyMap<string, string>,
): Material[] {
  const platform = `${hostPlatform.os}/${hostPlatform.architecture}`;
  return [...images].map(([reference, id]) => {
    const repository = repositoryOf(parseReference(reference));
    const pulled = graph.images.referencesOf(id).find((one) => one.repository === repository && one.digest !== null);
    return { reference, digest: pulled?.digest ?? id, platform };
  });
}

/** Clients' own affairs. */
const PRIVATE = /^(frontend\.caps|local-sessionid:|cmdline$|attest:)/;

/** Encoded as JSON. */
export function provenanceOf(
  { Ref: ref, Frontend: frontend, FrontendAttrs: attrs, CreatedAt: started, CompletedAt: finished }: BuildHistoryRecord,
  materials: readonly Material[],
): Buffer {
  const { filename = 'Dockerfile', context, ...more } = attrs;
  const isRemote = context !== undefined && /^(https?:|git:|ssh:|git@)/.test(context);
  const args = Object.fromEntries(Object.entries(more).filter(([name]) => !PRIVATE.test(name)));
  const time = (at: typeof started): string | undefined => at && timestampDate(at).toISOString();
  return Buffer.from(
    JSON.stringify({
      builder: { id: '' },
      buildType: BUILD_TYPE,
      materials: materials.map(({ reference, digest, platform }) => ({
        uri: `pkg:docker/${purlOf(reference)}?platform=${encodeURIComponent(platform)}`,
        digest: { sha256: digest.replace(/^sha256:/, '') },
      })),
      invocation: {
        configSource: { ...(isRemote && { uri: context }), entryPoint: filename },
        parameters: { frontend, args, locals: isRemote ? [] : [{ name: 'context' }, { name: 'dockerfile' }] },
        environment: { platform: attrs['platform'] || `linux/${process.arch === 'arm64' ? 'arm64' : 'amd64'}` },
      },
      metadata: {
        buildInvocationID: ref,
        buildStartedOn: time(started),
        buildFinishedOn: time(finished),
        completeness: { parameters: true, environment: true, materials: false },
        reproducible: false,
      },
    }),
  );
}

/** `docker.io/library/busybox:1` → `busybox@1`. */
function purlOf(name: string): string {
  const reference = parseReference(name);
  const version = reference.tag ?? reference.digest ?? 'latest';
  return `${familiarRepository(repositoryOf(reference))}@${encodeURIComponent(version)}`;
}
