/** `caisson volume inspect`. */
import { type CommandShape, command } from '../../command.ts';
import { engine } from '../../connect.ts';
import { inspectEach } from '../../inspecting.ts';

const SHAPE: CommandShape = {
  name: 'volume inspect',
  usage: '[OPTIONS] VOLUME [VOLUME...]',
  takes: [1],
  summary: 'Show all about volumes',
  flags: [
    ['-f, --format <format>', 'json or a template'],
    ['--json', 'As --format json'],
  ],
  examples: ["caisson volume inspect -f '{{.Mountpoint}}' web"],
};

export default command<{ format?: string; json?: boolean }>(SHAPE, ({ flags, args }) => {
  const { volumes } = engine();
  return inspectEach(args, flags.format ?? (flags.json ? 'json' : undefined), (name) => volumes.inspect(name));
});
