/**
 * Device requests: `--gpus`, and devices by CDI. Who answers one is looked for at each start, not at create, as the devices
 * may come and go in between. GPUs without CDI are the vendors' own programs', as with dockerd: NVIDIA's hook puts them into
 * the container, AMD's runtime reads a variable.
 */
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { CaissonError } from '../../errdefs.ts';
import type { RuntimeSpec } from '../../oci.ts';
import type { DeviceRequest } from '../api/schemas/containers.ts';
import { injectCdiDevices } from './cdi.ts';

const NVIDIA_HOOK = 'nvidia-container-runtime-hook';
const AMD_RUNTIME = 'amd-container-runtime';
/** Parts of NVIDIA's driver; other words of a request choose who answers it. */
const NVIDIA_PARTS = ['compute', 'compat32', 'graphics', 'utility', 'video', 'display'];

interface GpuDriver {
  name: string;
  capabilities: string[];
  apply: (spec: RuntimeSpec, visible: string, selected: string[]) => void;
}

/** The first that has a program here. */
function gpuDriver(): GpuDriver | undefined {
  const hook = lookPath(NVIDIA_HOOK);
  if (hook !== undefined) {
    return {
      name: 'nvidia',
      capabilities: ['gpu', 'nvidia', ...NVIDIA_PARTS],
      apply: (spec, visible, selected) => {
        const parts = selected.filter((word) => NVIDIA_PARTS.includes(word));
        setVariable(spec, 'NVIDIA_VISIBLE_DEVICES', visible);
        if (parts.length > 0) setVariable(spec, 'NVIDIA_DRIVER_CAPABILITIES', parts.join());
        const env = Object.entries(process.env).map(([name, value]) => `${name}=${value}`);
        const run = { path: hook, args: [NVIDIA_HOOK, 'prestart'], env };
        spec.hooks = { ...spec.hooks, prestart: [...(spec.hooks?.prestart ?? []), run] };
      },
    };
  }
  if (lookPath(AMD_RUNTIME) === undefined) return undefined;
  return {
    name: 'amd',
    capabilities: ['gpu', 'amd'],
    apply: (spec, visible) => setVariable(spec, 'AMD_VISIBLE_DEVICES', visible),
  };
}

function lookPath(program: string): string | undefined {
  for (const dir of (process.env['PATH'] ?? '').split(':')) {
    const path = join(dir, program);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // not here
    }
  }
  return undefined;
}

/** In place of what the image says: images for GPUs ask for all of them. */
function setVariable(spec: RuntimeSpec, name: string, value: string): void {
  spec.process.env = [...spec.process.env.filter((entry) => !entry.startsWith(`${name}=`)), `${name}=${value}`];
}

function visibleDevices({ Count, DeviceIDs: ids }: DeviceRequest): string {
  const count = Count ?? 0;
  if (count !== 0 && ids?.length) {
    throw new CaissonError('InvalidParameter', 'cannot set both Count and DeviceIDs on device request');
  }
  if (ids?.length) return ids.join();
  if (count < 0) return 'all';
  return count === 0 ? 'void' : Array.from({ length: count }, (_, number) => number).join();
}

/** Of lists of words of which one must hold whole. */
const matching = (asked: string[][] | null | undefined, { capabilities }: GpuDriver): string[] | undefined =>
  asked?.find((words) => words.every((word) => capabilities.includes(word)));

function cdiNames({ Count, Options, DeviceIDs }: DeviceRequest): string[] {
  if (Count) throw new CaissonError('InvalidParameter', 'unexpected count in CDI device request');
  if (Object.keys(Options ?? {}).length > 0) {
    throw new CaissonError('InvalidParameter', 'unexpected options in CDI device request');
  }
  return DeviceIDs ?? [];
}

function noDriver({ Driver: driver, Capabilities: capabilities }: DeviceRequest): CaissonError {
  const sets = (capabilities ?? []).map((set) => `[${set.join(' ')}]`).join(' ');
  const message = `could not select device driver "${driver ?? ''}" with capabilities: [${sets}]`;
  return new CaissonError('System', message, {
    code: 'DEVICE_DRIVER_NOT_FOUND',
    hint: `--gpus wants ${NVIDIA_HOOK} or ${AMD_RUNTIME} in the daemon's PATH; --device takes a device by CDI`,
  });
}

export async function answerDeviceRequests(
  spec: RuntimeSpec,
  requests: readonly DeviceRequest[],
  cdiSpecDirs: readonly string[],
): Promise<void> {
  const names: string[] = [];
  for (const request of requests) {
    if (request.Driver === 'cdi') {
      names.push(...cdiNames(request));
      continue;
    }
    const driver = gpuDriver();
    const isAsked = driver !== undefined && (!request.Driver || request.Driver === driver.name);
    const selected = isAsked ? matching(request.Capabilities, driver) : undefined;
    if (driver === undefined || selected === undefined) throw noDriver(request);
    driver.apply(spec, visibleDevices(request), selected);
  }
  if (names.length > 0) await injectCdiDevices(spec, names, cdiSpecDirs);
}
