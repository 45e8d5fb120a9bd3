/** Settings of dockerd that caisson has not: known by their names, to say why. */
import { CaissonError } from '../errdefs.ts';
import type { Setting } from './settings.ts';

const NO_SWARM = 'it has no swarm mode';
const NO_REALTIME = 'it keeps no real-time budget for all containers together; docker run has --cpu-rt-runtime';

/** dockerd's flag, its key where that differs, and why. */
const REFUSED: [flag: string, why: string, key?: string][] = [
  ['init-path', 'the init of --init is a part of it'],
  ['storage-opt', 'its overlay has no options', 'storage-opts'],
  ['userns-remap', 'the users of containers are those of the host'],
  ['cpu-rt-period', NO_REALTIME],
  ['cpu-rt-runtime', NO_REALTIME],
  ['api-cors-header', 'its API is not for web pages'],
  ['allow-nondistributable-artifacts', 'it pushes all layers alike'],
  ['network-diagnostic-port', NO_SWARM],
  ['userland-proxy-path', 'no program carries the traffic of published ports'],
  ['swarm-default-advertise-addr', NO_SWARM],
  ['network-control-plane-mtu', NO_SWARM],
  ['node-generic-resource', NO_SWARM, 'node-generic-resources'],
];

/** Switches that may be off. */
const REFUSED_SWITCHES: [flag: string, why: string][] = [
  ['selinux-enabled', 'it sets no SELinux labels'],
  ['rootless', 'its daemon needs root'],
  ['cri-containerd', 'there is no containerd'],
];

const refuse = (name: string, why: string): never => {
  throw new CaissonError('NotImplemented', `${name} is not supported by caisson: ${why}`, {
    code: 'OPTION_NOT_SUPPORTED',
  });
};

export const REFUSED_SETTINGS: Setting[] = [
  ...REFUSED.map(
    ([flag, why, key = flag]): Setting => ({
      flag,
      key,
      kind: 'string',
      refused: true,
      set: () => refuse(key, why),
    }),
  ),
  ...REFUSED_SWITCHES.map(
    ([flag, why]): Setting => ({
      flag,
      kind: 'boolean',
      refused: true,
      set: (_, value: boolean) => value && refuse(flag, why),
    }),
  ),
];
