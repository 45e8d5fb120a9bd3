/** `caisson rmi`. */
import { type CommandShape, command } from '../command.ts';
import { engine } from '../connect.ts';
import { each } from '../each.ts';

const SHAPE: CommandShape = {
  name: 'rmi',
  usage: '[OPTIONS] IMAGE [IMAGE...]',
  takes: [1],
  summary: 'Remove images',
  flags: [
    ['-f, --force', 'Even if it has several names'],
    ['--no-prune', 'Keep untagged parents'],
    ['--platform <os/arch>', 'Only of this platform', 'list'],
  ],
  examples: ['caisson rmi alpine:3.21'],
};

export default command<{ force?: boolean; platform: string[]; prune: boolean }>(SHAPE, async ({ flags, args }) => {
  const { images } = engine();
  return each(args, async (name) => {
    const removed = await images.remove(name, {
      force: flags.force === true,
      noPrune: !flags.prune,
      platforms: flags.platform,
    });
    return removed
      .map(({ Untagged, Deleted }) => (Untagged === undefined ? `Deleted: ${Deleted}` : `Untagged: ${Untagged}`))
      .join('\n');
  });
});
