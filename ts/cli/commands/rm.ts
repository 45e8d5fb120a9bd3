/** `caisson rm`. */
import { type CommandShape, command } from '../command.ts';
import { engine } from '../connect.ts';
import { each } from '../each.ts';

const SHAPE: CommandShape = {
  name: 'rm',
  usage: '[OPTIONS] CONTAINER [CONTAINER...]',
  takes: [1],
  summary: 'Remove containers',
  flags: [
    ['-f, --force', 'Kill it first if it runs'],
    ['-l, --link', 'Remove a link, given as container/alias, and not the container'],
    ['-v, --volumes', 'Remove its anonymous volumes'],
  ],
  examples: ['caisson rm -f web'],
};

export default command<{ force?: boolean; link?: boolean; volumes?: boolean }>(SHAPE, async ({ flags, args }) => {
  const { containers } = engine();
  return each(args, async (name) => {
    await containers.remove(name, flags);
    return name;
  });
});
