/** `caisson network rm`. */
import { isKind } from '../../../errdefs.ts';
import { type CommandShape, command } from '../../command.ts';
import { engine } from '../../connect.ts';
import { each } from '../../each.ts';

const SHAPE: CommandShape = {
  name: 'network rm',
  usage: '[OPTIONS] NETWORK [NETWORK...]',
  takes: [1],
  summary: 'Remove networks',
  flags: [['-f, --force', 'One that is not there is no failure']],
  examples: ['caisson network rm web'],
};

export default command<{ force?: boolean }>(SHAPE, ({ flags, args }) =>
  each(args, async (name) => {
    try {
      await engine().networks.remove(name);
    } catch (error) {
      if (flags.force && isKind(error, 'NotFound')) return undefined;
      throw error;
    }
    return name;
  }),
);
