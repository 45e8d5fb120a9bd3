/** `caisson top`. */
import { type CommandShape, parseArguments, requireArguments } from '../arguments.ts';
import { engine } from '../connect.ts';
import { printTable } from '../table.ts';

const SHAPE: CommandShape = {
  name: 'top',
  usage: 'CONTAINER [ps OPTIONS]',
  summary: 'Show the processes of a container',
  flags: [],
  examples: ['caisson top web', 'caisson top web -o pid,comm'],
  passThrough: true,
  usageCode: 1,
};

export async function run(argv: string[]): Promise<number> {
  const { args } = parseArguments<object>(SHAPE, argv);
  requireArguments(SHAPE, args, 1);
  const [name = '', ...psArgs] = args;
  const { Titles, Processes } = await engine().containers.top(name, psArgs.join(' ') || undefined);
  await printTable(
    Titles,
    Processes,
    Titles.map((_, i) => i === Titles.length - 1),
  );
  return 0;
}
