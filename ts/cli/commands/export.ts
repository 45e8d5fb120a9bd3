/** `caisson export`. */
import { type CommandShape, parseArguments, requireArguments } from '../arguments.ts';
import { engine } from '../connect.ts';
import { requireOutput, writeArchive } from '../outputFile.ts';

const SHAPE: CommandShape = {
  name: 'export',
  usage: '[OPTIONS] CONTAINER',
  summary: 'Write the file system of a container to a tar archive',
  flags: [['-o, --output <path>', 'Archive; without it standard output']],
  examples: ['caisson export -o web.tar web'],
  usageCode: 1,
};

export async function run(argv: string[]): Promise<number> {
  const { flags, args } = parseArguments<{ output?: string }>(SHAPE, argv);
  requireArguments(SHAPE, args, 1, 1);
  requireOutput(flags.output);
  await writeArchive(engine().containers.export(args[0] ?? ''), flags.output);
  return 0;
}
