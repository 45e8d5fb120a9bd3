/** `caisson top`. */
import { type CommandShape, command } from '../command.ts';
import { engine } from '../connect.ts';
import { printTable } from '../table.ts';

const SHAPE: CommandShape = {
  name: 'top',
  usage: 'CONTAINER [ps OPTIONS]',
  takes: [1],
  summary: 'Show the processes of a container',
  flags: [],
  examples: ['caisson top web', 'caisson top web -o pid,comm'],
  passThrough: true,
};

export default command(SHAPE, async ({ args }) => {
  const [name = '', ...psArgs] = args;
  const { Titles, Processes } = await engine().containers.top(name, psArgs.join(' ') || undefined);
  await printTable(
    Titles,
    Processes,
    Titles.map((_, i) => i === Titles.length - 1),
    20,
  );
  return 0;
});
