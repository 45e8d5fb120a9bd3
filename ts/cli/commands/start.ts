/** `caisson start`. */
import { type CommandShape, command } from '../command.ts';
import { engine } from '../connect.ts';
import { each } from '../each.ts';
import { ExitCode } from '../failure.ts';
import { startAttached } from '../runContainer.ts';

const SHAPE: CommandShape = {
  name: 'start',
  usage: '[OPTIONS] CONTAINER [CONTAINER...]',
  takes: [1],
  summary: 'Start stopped containers',
  flags: [
    ['-a, --attach', 'Show its output and pass signals on'],
    ['-i, --interactive', 'Pass input on as well'],
    ['--detach-keys <keys>', 'Keys that detach (ctrl-p,ctrl-q)'],
  ],
  examples: ['caisson start web db', 'caisson start -ai shell'],
};

export default command<{ attach?: boolean; interactive?: boolean; detachKeys?: string }>(
  SHAPE,
  async ({ flags, args }) => {
    const client = engine();
    if (!flags.attach && !flags.interactive)
      return each(args, async (name) => {
        await client.containers.start(name);
        return name;
      });
    const [name = '', ...more] = args;
    if (more.length > 0) throw new ExitCode(1, 'caisson: you cannot start and attach multiple containers at once');
    const { Id, Config, HostConfig } = await client.containers.inspect(name);
    return startAttached(client, Id, {
      stdin: flags.interactive === true && Config.OpenStdin,
      stdout: true,
      stderr: true,
      tty: Config.Tty,
      sigProxy: true,
      detachKeys: flags.detachKeys,
      removed: HostConfig.AutoRemove === true,
    });
  },
);
