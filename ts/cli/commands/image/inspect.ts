/** `caisson image inspect`. */
import { type CommandShape, command } from '../../command.ts';
import { engine } from '../../connect.ts';
import { inspectEach } from '../../inspecting.ts';

const SHAPE: CommandShape = {
  name: 'image inspect',
  usage: '[OPTIONS] IMAGE [IMAGE...]',
  takes: [1],
  summary: 'Show all about images',
  flags: [
    ['-f, --format <format>', 'json or a template'],
    ['--json', 'As --format json'],
    ['--platform <os/arch>', 'Of this platform'],
  ],
  examples: ["caisson image inspect -f '{{.Os}}/{{.Architecture}}' web"],
};

export default command<{ format?: string; json?: boolean; platform?: string }>(SHAPE, ({ flags, args }) => {
  const { images } = engine();
  return inspectEach(args, flags.format ?? (flags.json ? 'json' : undefined), (name) =>
    images.inspect(name, { platform: flags.platform }),
  );
});
