/** `caisson port`. */
import type { PortBinding } from '../../client/index.ts';
import { type CommandShape, command } from '../command.ts';
import { engine } from '../connect.ts';
import { ExitCode } from '../failure.ts';

const SHAPE: CommandShape = {
  name: 'port',
  usage: 'CONTAINER [PRIVATE_PORT[/PROTO]]',
  takes: [1, 2],
  summary: 'Show where the ports of a container are published',
  flags: [['--json', 'As JSON']],
  examples: ['caisson port web', 'caisson port web 80'],
};

export default command<{ json?: boolean }>(SHAPE, async ({ flags, args }) => {
  const [name = '', wanted] = args;
  const { Name, NetworkSettings } = await engine().containers.inspect(name);
  const ports = Object.entries(NetworkSettings.Ports ?? {}).filter(([, bindings]) => (bindings ?? []).length > 0);
  if (flags.json) {
    process.stdout.write(`${JSON.stringify(Object.fromEntries(ports))}\n`);
    return 0;
  }
  if (wanted === undefined) {
    for (const [port, bindings] of ports)
      for (const binding of bindings ?? []) process.stdout.write(`${port} -> ${address(binding)}\n`);
    return 0;
  }
  const port = wanted.includes('/') ? wanted : `${wanted}/tcp`;
  const bindings = ports.find(([key]) => key === port)?.[1];
  if (!bindings) throw new ExitCode(1, `caisson: no public port '${port}' published for ${Name.replace(/^\//, '')}`);
  for (const binding of bindings) process.stdout.write(`${address(binding)}\n`);
  return 0;
});

const address = ({ HostIp = '', HostPort = '' }: PortBinding): string =>
  `${HostIp.includes(':') ? `[${HostIp}]` : HostIp}:${HostPort}`;
