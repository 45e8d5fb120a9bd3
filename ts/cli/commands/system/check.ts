/** `caisson system check`. */
import { type CommandShape, command } from '../../command.ts';
import { engine } from '../../connect.ts';

const SHAPE: CommandShape = {
  name: 'system check',
  usage: '[OPTIONS]',
  takes: [0, 0],
  summary: 'Compare what the store holds with what it should',
  flags: [
    ['--repair', 'Fetch and unpack again what is damaged'],
    ['--json', 'One JSON object a line'],
  ],
  examples: ['caisson system check', 'caisson system check --repair'],
};

interface CheckFlags {
  repair?: boolean;
  json?: boolean;
}

/** 0 when all is whole, or has been made so. */
export default command<CheckFlags>(SHAPE, async ({ flags }) => {
  let left = 0;
  for await (const line of engine().checkStore({ repair: flags.repair === true })) {
    if ('checked' in line) left = line.problems - line.repaired;
    if (flags.json) process.stdout.write(`${JSON.stringify(line)}\n`);
    else if ('checked' in line) {
      const { checked, problems, repaired } = line;
      const mended = flags.repair ? `, ${repaired} repaired` : '';
      const problem = problems === 1 ? 'problem' : 'problems';
      process.stdout.write(
        `${checked.blobs} blobs and ${checked.layers} layers checked: ${problems} ${problem}${mended}\n`,
      );
    } else {
      const of = line.images.length > 0 ? ` (of ${line.images.join(', ')})` : '';
      const outcome = line.outcome === undefined ? '' : `; ${line.outcome}`;
      process.stdout.write(`${line.object} ${line.id}${of}: ${line.problem}${outcome}\n`);
    }
  }
  if (left > 0 && !flags.repair && !flags.json)
    process.stderr.write('caisson system check --repair mends what can be mended.\n');
  return left === 0 ? 0 : 1;
});
