/** `caisson run`. */
import { type CommandShape, command } from '../command.ts';
import { engineOrStart } from '../connect.ts';
import { CONTAINER_FLAGS, type ContainerFlags } from '../containerFlags.ts';
import { ExitCode } from '../failure.ts';
import { createContainer, startAttached, startFailure } from '../runContainer.ts';
import { FlagError } from '../units.ts';

const SHAPE: CommandShape = {
  name: 'run',
  usage: '[OPTIONS] IMAGE [COMMAND] [ARG...]',
  takes: [1],
  summary: 'Create and run a new container from an image',
  flags: [
    ['-d, --detach', "Run in the background and print the container's id"],
    ['--detach-keys <keys>', 'Keys that detach (ctrl-p,ctrl-q)'],
    ['--sig-proxy', 'Pass signals on to the container', 'on'],
    ...CONTAINER_FLAGS,
  ],
  examples: [
    'caisson run -it --rm alpine sh',
    'caisson run -d --name web -p 8080:80 nginx',
    'caisson run --rm -v "$PWD:/work" -w /work node:24 npm test',
    'caisson run -m 512m --cpus 1.5 --pids-limit 100 app',
  ],
  passThrough: true,
};

interface RunFlags extends ContainerFlags {
  detach?: boolean;
  detachKeys?: string;
  sigProxy: boolean;
}

export default command<RunFlags>(SHAPE, async ({ flags, args }) => {
  const streams = attachedStreams(flags);
  if (flags.detach && flags.attach.length > 0)
    throw new ExitCode(125, 'caisson: conflicting options: cannot specify both --attach and --detach');
  if (flags.tty && streams.stdin && !process.stdin.isTTY)
    throw new ExitCode(125, 'caisson: the input device is not a TTY');
  try {
    const engine = await engineOrStart();
    const id = await createContainer(engine, flags, args, streams);
    if (flags.detach) {
      await engine.containers.start(id);
      process.stdout.write(`${id}\n`);
      return 0;
    }
    return await startAttached(engine, id, {
      ...streams,
      tty: flags.tty === true,
      sigProxy: flags.sigProxy,
      detachKeys: flags.detachKeys,
      removed: flags.rm === true,
    });
  } catch (error) {
    if (error instanceof ExitCode || error instanceof FlagError) throw error;
    throw startFailure(error, 'run');
  }
});

/** Those of `-a`; without it output, and input with `-i`. */
function attachedStreams({ attach, detach, interactive }: RunFlags): {
  stdin: boolean;
  stdout: boolean;
  stderr: boolean;
} {
  if (detach) return { stdin: false, stdout: false, stderr: false };
  const chosen = attach.map((name) => name.toLowerCase());
  const wrong = chosen.find((name) => !['stdin', 'stdout', 'stderr'].includes(name));
  if (wrong !== undefined) throw new ExitCode(125, `caisson: invalid stream "${wrong}": use stdin, stdout or stderr`);
  const all = chosen.length === 0;
  return {
    stdin: all ? interactive === true : chosen.includes('stdin'),
    stdout: all || chosen.includes('stdout'),
    stderr: all || chosen.includes('stderr'),
  };
}
