/** `caisson network connect`. */
import { type CommandShape, command } from '../../command.ts';
import { engine } from '../../connect.ts';
import { endpointConfig } from '../../networks.ts';

const SHAPE: CommandShape = {
  name: 'network connect',
  usage: '[OPTIONS] NETWORK CONTAINER',
  takes: [2, 2],
  summary: 'Let a container join a network',
  flags: [
    ['--alias <name>', 'Further name in the network', 'list'],
    ['--driver-opt <key=value>', 'Option of the driver', 'list'],
    ['--gw-priority <n>', 'The highest of a container’s networks has its default route'],
    ['--ip <address>', 'IPv4 address'],
    ['--ip6 <address>', 'IPv6 address'],
    ['--link <container:alias>', 'Know another container by a name of one’s own', 'list'],
    ['--link-local-ip <address>', 'Link-local address', 'list'],
  ],
  examples: ['caisson network connect --alias db backend postgres'],
};

interface ConnectFlags {
  alias: string[];
  driverOpt: string[];
  gwPriority?: string;
  ip?: string;
  ip6?: string;
  link: string[];
  linkLocalIp: string[];
}

export default command<ConnectFlags>(SHAPE, async ({ flags, args }) => {
  await engine().networks.connect(args[0] ?? '', args[1] ?? '', endpointConfig(flags));
  return 0;
});
