/** `caisson exec`. */
import { readFileSync } from 'node:fs';
import { join } from '../attachment.ts';
import { type CommandShape, command } from '../command.ts';
import { engine } from '../connect.ts';
import { ExitCode } from '../failure.ts';
import { terminalSize } from '../terminal.ts';

const SHAPE: CommandShape = {
  name: 'exec',
  usage: '[OPTIONS] CONTAINER COMMAND [ARG...]',
  takes: [2],
  summary: 'Run a command in a running container',
  flags: [
    ['-d, --detach', 'Do not wait for it'],
    ['--detach-keys <keys>', 'Keys that detach (ctrl-p,ctrl-q)'],
    ['-e, --env <name=value>', 'Set an environment variable', 'list'],
    ['--env-file <path>', 'Read environment variables from a file', 'list'],
    ['-i, --interactive', 'Pass input on'],
    ['--privileged', 'Give extended privileges'],
    ['-t, --tty', 'Allocate a terminal'],
    ['-u, --user <name|uid[:group|gid]>', 'User to run as'],
    ['-w, --workdir <path>', 'Working directory'],
  ],
  examples: ['caisson exec -it web sh', 'caisson exec -u 1000 web id'],
  passThrough: true,
};

interface ExecFlags {
  detach?: boolean;
  detachKeys?: string;
  env: string[];
  envFile: string[];
  interactive?: boolean;
  privileged?: boolean;
  tty?: boolean;
  user?: string;
  workdir?: string;
}

export default command<ExecFlags>(SHAPE, async ({ flags, args }) => {
  const [container = '', ...command] = args;
  const { detach = false, tty = false, interactive: stdin = false } = flags;
  if (tty && stdin && !detach && !process.stdin.isTTY) throw new ExitCode(1, 'caisson: the input device is not a TTY');
  const { containers } = engine();
  const size = terminalSize();
  const options = {
    command,
    env: [...flags.envFile.flatMap(readLines), ...flags.env],
    tty,
    stdin,
    detach,
    ...(flags.workdir !== undefined && { workingDir: flags.workdir }),
    ...(flags.user !== undefined && { user: flags.user }),
    ...(flags.privileged && { privileged: true }),
    ...(size && { size: [size.rows, size.columns] as [number, number] }),
  };
  const id = await containers.createExec(container, options);
  if (detach) {
    await containers.startExecDetached(id, { tty });
    return 0;
  }
  const exec = await containers.startExec(id, options);
  const how = await join(exec.session, {
    stdin,
    tty,
    detachKeys: flags.detachKeys,
    resize: (rows, columns) => exec.resize(rows, columns),
  });
  return how === 'detached' ? 0 : ((await exec.exitCode()) ?? 0);
});

const readLines = (path: string): string[] =>
  readFileSync(path, 'utf8')
    .split(/\r?\n/)
    .filter((line) => line.trim() !== '' && !line.trimStart().startsWith('#'));
