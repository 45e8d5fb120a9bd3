/** `caisson volume create`. */
import { type CommandShape, command } from '../../command.ts';
import { engine } from '../../connect.ts';
import { keyValues } from '../../networks.ts';

const SHAPE: CommandShape = {
  name: 'volume create',
  usage: '[OPTIONS] [VOLUME]',
  takes: [0, 1],
  summary: 'Create a volume',
  flags: [
    ['-d, --driver <driver>', 'Driver: local or a plugin (local)'],
    ['--label <key=value>', 'Set a label', 'list'],
    ['-o, --opt <key=value>', 'Option of the driver; of local: type, device, o', 'list'],
  ],
  examples: [
    'caisson volume create data',
    'caisson volume create -o type=tmpfs -o device=tmpfs -o o=size=100m scratch',
  ],
};

interface CreateFlags {
  driver?: string;
  label: string[];
  opt: string[];
}

export default command<CreateFlags>(SHAPE, async ({ flags, args }) => {
  const [name] = args;
  const { Name } = await engine().volumes.create({
    Driver: flags.driver ?? 'local',
    DriverOpts: keyValues(flags.opt),
    Labels: keyValues(flags.label),
    ...(name !== undefined && { Name: name }),
  });
  process.stdout.write(`${Name}\n`);
  return 0;
});
