/** What specs need to know of this host beyond the addon's probe; read once at the daemon's start. */
import { readdirSync, readFileSync } from 'node:fs';
import type { HostInfo } from '../native/index.ts';
import { boundingSet } from '../runtime/capabilities.ts';
import type { SpecHost } from '../runtime/spec.ts';

function firstThere(paths: string[], otherwise: string): string {
  for (const path of paths) {
    try {
      const text = readFileSync(path, 'utf8').trim();
      if (text !== '') return text;
    } catch {
      // the next one: v1, v2 and hosts without the controller differ
    }
  }
  return otherwise;
}

const CPUS = '/sys/devices/system/cpu';

function thermalThrottlePaths(): string[] {
  return readdirSync(CPUS)
    .filter((name) => /^cpu\d+$/.test(name))
    .filter((name) => readdirSync(`${CPUS}/${name}`).includes('thermal_throttle'))
    .map((name) => `${CPUS}/${name}/thermal_throttle`);
}

export function readSpecHost(host: HostInfo): SpecHost {
  const capBnd = /^CapBnd:\s*([0-9a-f]+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  const cgroup = '/sys/fs/cgroup';
  return {
    ...host,
    cpusetCpus: firstThere(
      [`${cgroup}/cpuset/cpuset.effective_cpus`, `${cgroup}/cpuset.cpus.effective`, `${CPUS}/online`],
      '0',
    ),
    cpusetMems: firstThere([`${cgroup}/cpuset/cpuset.effective_mems`, `${cgroup}/cpuset.mems.effective`], '0'),
    thermalThrottlePaths: thermalThrottlePaths(),
    bounded: boundingSet(capBnd),
  };
}
