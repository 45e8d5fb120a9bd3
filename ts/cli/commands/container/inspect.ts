/** `caisson container inspect`. */
import { type CommandShape, command } from '../../command.ts';
import { engine } from '../../connect.ts';
import { inspectEach } from '../../inspecting.ts';

const SHAPE: CommandShape = {
  name: 'container inspect',
  usage: '[OPTIONS] CONTAINER [CONTAINER...]',
  takes: [1],
  summary: 'Show all about containers',
  flags: [
    ['-f, --format <format>', 'json or a template'],
    ['--json', 'As --format json'],
    ['-s, --size', 'Sizes too'],
  ],
  examples: ["caisson container inspect -f '{{.State.Status}}' web"],
};

export default command<{ format?: string; json?: boolean; size?: boolean }>(SHAPE, ({ flags, args }) => {
  const { containers } = engine();
  return inspectEach(args, flags.format ?? (flags.json ? 'json' : undefined), (name) =>
    containers.inspect(name, { size: flags.size === true }),
  );
});
