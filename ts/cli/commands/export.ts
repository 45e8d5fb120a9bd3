/** `caisson export`. */
import { type CommandShape, command } from '../command.ts';
import { engine } from '../connect.ts';
import { requireOutput, writeArchive } from '../outputFile.ts';

const SHAPE: CommandShape = {
  name: 'export',
  usage: '[OPTIONS] CONTAINER',
  takes: [1, 1],
  summary: 'Write the file system of a container to a tar archive',
  flags: [['-o, --output <path>', 'Archive; without it standard output']],
  examples: ['caisson export -o web.tar web'],
};

export default command<{ output?: string }>(SHAPE, async ({ flags, args }) => {
  requireOutput(flags.output);
  await writeArchive(engine().containers.export(args[0] ?? ''), flags.output);
  return 0;
});
