/** `caisson attach`. */

import { forwardSignals, join } from '../attachment.ts';
import { type CommandShape, command } from '../command.ts';
import { engine } from '../connect.ts';
import { ExitCode } from '../failure.ts';

const SHAPE: CommandShape = {
  name: 'attach',
  usage: '[OPTIONS] CONTAINER',
  takes: [1, 1],
  summary: 'Join the streams of a running container',
  flags: [
    ['--detach-keys <keys>', 'Keys that detach (ctrl-p,ctrl-q)'],
    ['--no-stdin', 'Do not pass input on'],
    ['--sig-proxy', 'Pass signals on', 'on'],
  ],
  examples: ['caisson attach web'],
};

export default command<{ detachKeys?: string; stdin: boolean; sigProxy: boolean }>(SHAPE, async ({ flags, args }) => {
  const { containers } = engine();
  const { Id, Config, State } = await containers.inspect(args[0] ?? '');
  if (!State.Running) throw new ExitCode(1, 'caisson: cannot attach to a stopped container, start it first');
  if (State.Paused) throw new ExitCode(1, 'caisson: cannot attach to a paused container, unpause it first');
  const stdin = flags.stdin && Config.OpenStdin;
  const [session, { result }] = await Promise.all([
    containers.attach(Id, { stdin, stdout: true, stderr: true, tty: Config.Tty }),
    containers.watch(Id),
  ]);
  const stop = flags.sigProxy && !Config.Tty ? forwardSignals((name) => containers.kill(Id, name)) : () => undefined;
  const how = await join(session, {
    stdin,
    tty: Config.Tty,
    detachKeys: flags.detachKeys,
    resize: (rows, columns) => containers.resize(Id, rows, columns),
  }).finally(stop);
  if (how === 'ended') return (await result).StatusCode;
  process.stderr.write('read escape sequence\n');
  return 0;
});
