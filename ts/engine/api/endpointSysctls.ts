/** `--sysctl net.ipv4.conf.eth0.forwarding=1`: settings of a device, which belong to the endpoint that has the device. */
import { CaissonError } from '../../errdefs.ts';
import { SYSCTLS } from '../network/settings.ts';
import type { CreateBody } from './schemas/containers.ts';

const OF_DEVICE = /^net\.([^.]+)\.([^.]+)\.(eth[^.]*)\.(.+)$/;

const invalid = (message: string): CaissonError => new CaissonError('InvalidParameter', message);

/** Of clients before API 1.48 those of eth0 go to the endpoint of the network mode; later ones name the endpoint themselves. */
export function withEndpointSysctls(body: CreateBody, before148: boolean): CreateBody {
  const mode = body.HostConfig?.NetworkMode ?? '';
  if (mode === 'host' || mode.startsWith('container:')) return body;
  const sysctls = Object.entries(body.HostConfig?.Sysctls ?? {});
  const found = sysctls.filter(([name]) => OF_DEVICE.test(name));
  if (found.length === 0) return body;
  const moved = found.map(([name, value]) => {
    const [, area, group, device, setting] = OF_DEVICE.exec(name) ?? [];
    if (!before148) {
      throw invalid(`interface specific sysctl setting "${name}" must be supplied using driver option '${SYSCTLS}'`);
    }
    if (device !== 'eth0') {
      throw invalid(
        `unable to determine network endpoint for sysctl ${name}, use driver option '${SYSCTLS}' to set per-interface sysctls`,
      );
    }
    return `net.${area}.${group}.IFNAME.${setting}=${value}`;
  });
  const endpoints = body.NetworkingConfig?.EndpointsConfig ?? {};
  const names = Object.keys(endpoints);
  const own = names.find((name) => name === mode) ?? (names.length === 1 ? names[0] : undefined) ?? (mode || 'bridge');
  const endpoint = endpoints[own] ?? {};
  // what the endpoint says itself comes behind, and counts
  const text = [...moved, endpoint.DriverOpts?.[SYSCTLS] ?? ''].filter((one) => one !== '').join();
  const rest = sysctls.filter(([name]) => !OF_DEVICE.test(name));
  return {
    ...body,
    HostConfig: { ...body.HostConfig, Sysctls: Object.fromEntries(rest) },
    NetworkingConfig: {
      EndpointsConfig: {
        ...endpoints,
        [own]: { ...endpoint, DriverOpts: { ...endpoint.DriverOpts, [SYSCTLS]: text } },
      },
    },
  };
}
