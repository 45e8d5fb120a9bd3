/** `caisson diff`. */
import { type CommandShape, command } from '../command.ts';
import { engine } from '../connect.ts';

const SHAPE: CommandShape = {
  name: 'diff',
  usage: 'CONTAINER',
  takes: [1, 1],
  summary: 'Show what a container has changed of the files of its image',
  flags: [],
  examples: ['caisson diff web'],
};

export default command(SHAPE, async ({ args }) => {
  for (const { Kind, Path } of await engine().containers.changes(args[0] ?? '')) {
    process.stdout.write(`${'CAD'[Kind] ?? '?'} ${Path}\n`);
  }
  return 0;
});
