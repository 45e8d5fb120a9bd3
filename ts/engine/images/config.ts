/** Image configs as they come from registries and archives: hostile until checked. The image's id is the digest of its bytes. */
import Type from 'typebox';
import { checkDigest, sha256Of } from '../../digest.ts';
import { asCaissonError, CaissonError } from '../../errdefs.ts';
import type { ImageConfig } from '../../oci.ts';
import { parseJson } from '../api/json.ts';
import { bodyCheck } from '../api/schema.ts';

/** As containerd limits manifests and configs. */
export const CONFIG_LIMIT = 4 * 1048 * 1048;
/** The kernel's limit for one overlay mount (fs/overlayfs OVL_MAX_STACK), less the container's own layer. */
const MAX_LAYERS = 499;

const strings = Type.Union([Type.Array(Type.String()), Type.Null()]);
const set = Type.Union([Type.Record(Type.String(), Type.Unknown()), Type.Null()]);
const duration = Type.Optional(Type.Number());

const check = bodyCheck(
  Type.Object({
    created: Type.Optional(Type.Union([Type.String(), Type.Null()])),
    author: Type.Optional(Type.String()),
    architecture: Type.Optional(Type.String()),
    os: Type.Optional(Type.String()),
    variant: Type.Optional(Type.String()),
    config: Type.Optional(
      Type.Union([
        Type.Null(),
        Type.Object({
          User: Type.Optional(Type.String()),
          ExposedPorts: Type.Optional(set),
          Env: Type.Optional(strings),
          Entrypoint: Type.Optional(strings),
          Cmd: Type.Optional(strings),
          Volumes: Type.Optional(set),
          WorkingDir: Type.Optional(Type.String()),
          Labels: Type.Optional(Type.Union([Type.Record(Type.String(), Type.String()), Type.Null()])),
          StopSignal: Type.Optional(Type.String()),
          Shell: Type.Optional(strings),
          OnBuild: Type.Optional(strings),
          Healthcheck: Type.Optional(
            Type.Union([
              Type.Null(),
              Type.Object({
                Test: Type.Optional(strings),
                Interval: duration,
                Timeout: duration,
                StartPeriod: duration,
                StartInterval: duration,
                Retries: Type.Optional(Type.Integer()),
              }),
            ]),
          ),
        }),
      ]),
    ),
    rootfs: Type.Object({ type: Type.Literal('layers'), diff_ids: strings }),
    history: Type.Optional(
      Type.Union([
        Type.Null(),
        Type.Array(
          Type.Object({
            created: Type.Optional(Type.Union([Type.String(), Type.Null()])),
            created_by: Type.Optional(Type.String()),
            author: Type.Optional(Type.String()),
            comment: Type.Optional(Type.String()),
            empty_layer: Type.Optional(Type.Boolean()),
          }),
        ),
      ]),
    ),
  }),
);

export interface CheckedConfig {
  id: string;
  /** The exact bytes. */
  text: string;
  config: ImageConfig;
}

export function checkConfig(bytes: Buffer): CheckedConfig {
  const bad = (reason: string, cause?: unknown): CaissonError =>
    new CaissonError('InvalidParameter', `invalid image config: ${reason}`, { code: 'IMAGE_CONFIG_INVALID', cause });
  if (bytes.length > CONFIG_LIMIT) throw bad(`${bytes.length} bytes are more than the limit of ${CONFIG_LIMIT}`);
  let parsed: ReturnType<typeof check>;
  try {
    parsed = check(parseJson(bytes));
  } catch (error) {
    throw bad(asCaissonError(error).message, error);
  }
  const diffIds = parsed.rootfs.diff_ids ?? [];
  if (diffIds.length > MAX_LAYERS)
    throw bad(`${diffIds.length} layers are more than the kernel's limit of ${MAX_LAYERS}`);
  for (const diffId of diffIds) checkDigest(diffId);
  return { id: sha256Of(bytes), text: bytes.toString('utf8'), config: parseConfig(bytes.toString('utf8')) };
}

/** A config that was checked before it was stored. */
export function parseConfig(text: string): ImageConfig {
  const raw = JSON.parse(text) as ImageConfig;
  return {
    ...raw,
    os: raw.os || 'linux',
    architecture: raw.architecture || 'amd64',
    config: raw.config ?? {},
    history: raw.history ?? [],
    rootfs: { type: 'layers', diff_ids: raw.rootfs.diff_ids ?? [] },
  };
}

/** Label namespaces that control planes act on: what an image claims in them is not the user's will. */
const RESERVED = ['com.caisson.', 'io.caisson.', 'containerd.io/', 'io.cri-containerd', 'cdi.k8s.io/'];

/** An image's labels as a container may inherit them, and the names that were left out. */
export function inheritableLabels(labels: Record<string, string> | null | undefined): {
  labels: Record<string, string>;
  dropped: string[];
} {
  const entries = Object.entries(labels ?? {});
  const isReserved = ([name]: [string, string]): boolean => RESERVED.some((prefix) => name.startsWith(prefix));
  return {
    labels: Object.fromEntries(entries.filter((entry) => !isReserved(entry))),
    dropped: entries.filter(isReserved).map(([name]) => name),
  };
}
