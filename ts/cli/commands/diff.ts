/** `caisson diff`. */
import { type CommandShape, parseArguments, requireArguments } from '../arguments.ts';
import { engine } from '../connect.ts';

const SHAPE: CommandShape = {
  name: 'diff',
  usage: 'CONTAINER',
  summary: 'Show what a container has changed of the files of its image',
  flags: [],
  examples: ['caisson diff web'],
  usageCode: 1,
};

export async function run(argv: string[]): Promise<number> {
  const { args } = parseArguments<object>(SHAPE, argv);
  requireArguments(SHAPE, args, 1, 1);
  for (const { Kind, Path } of await engine().containers.changes(args[0] ?? '')) {
    process.stdout.write(`${'CAD'[Kind] ?? '?'} ${Path}\n`);
  }
  return 0;
}
