/** What another OCI runtime can do, as its `features` command tells: of that, what decides how a container is described to it. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { CaissonError } from '../../errdefs.ts';
import type { Mount } from '../../oci.ts';
import type { HostConfig } from '../containers/config.ts';
import type { OciRuntime } from './runtimes.ts';

const run = promisify(execFile);
const TIMEOUT_MS = 5_000;

/** By the object of the configuration, which a reload makes anew. Undefined: the runtime has no such command. */
const known = new WeakMap<OciRuntime, Promise<string[] | undefined>>();

async function readMountOptions({ path, args }: OciRuntime): Promise<string[] | undefined> {
  try {
    const { stdout } = await run(path, [...args, 'features'], { timeout: TIMEOUT_MS });
    const { mountOptions } = JSON.parse(stdout) as { mountOptions?: string[] };
    return mountOptions ?? [];
  } catch {
    // an old one; whether it can be started at all the start will tell
    return undefined;
  }
}

function mountOptionsOf(runtime: OciRuntime): Promise<string[] | undefined> {
  const found = known.get(runtime) ?? readMountOptions(runtime);
  known.set(runtime, found);
  return found;
}

/**
 * Read-only binds as the runtime knows them: one that takes `rro` for nothing would give the container a writable mount. As
 * dockerd, what lies below a bind is then writable, unless the user has asked that it must not be.
 */
export async function knownReadOnly(mounts: Mount[], runtime: OciRuntime, hostConfig: HostConfig): Promise<Mount[]> {
  if (!mounts.some(({ options }) => options?.includes('rro'))) return mounts;
  const options = await mountOptionsOf(runtime);
  if (options?.includes('rro')) return mounts;
  if (hostConfig.Mounts?.some(({ BindOptions }) => BindOptions?.ReadOnlyForceRecursive)) {
    const why = options === undefined ? ': OCI features struct is not available' : '';
    throw new CaissonError('System', `rro is not supported by runtime "${hostConfig.Runtime}"${why}`);
  }
  return mounts.map((mount) =>
    mount.options === undefined
      ? mount
      : { ...mount, options: mount.options.map((option) => (option === 'rro' ? 'ro' : option)) },
  );
}
