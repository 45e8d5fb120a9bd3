/** `caisson restart`. */
import { type CommandShape, parseArguments, requireArguments } from '../arguments.ts';
import { engine } from '../connect.ts';
import { each } from '../each.ts';
import { parseInteger } from '../units.ts';

const SHAPE: CommandShape = {
  name: 'restart',
  usage: '[OPTIONS] CONTAINER [CONTAINER...]',
  summary: 'Restart containers',
  flags: [
    ['-t, --timeout <seconds>', 'Seconds until it is killed; -1: never'],
    ['--time <seconds>', 'As --timeout'],
    ['-s, --signal <signal>', 'Signal that asks it to end'],
  ],
  examples: ['caisson restart -t 5 web'],
  usageCode: 1,
};

export async function run(argv: string[]): Promise<number> {
  const { flags, args } = parseArguments<{ timeout?: string; time?: string; signal?: string }>(SHAPE, argv);
  requireArguments(SHAPE, args, 1);
  const given = flags.timeout ?? flags.time;
  const timeoutS = given === undefined ? undefined : parseInteger(given, '--timeout');
  const { containers } = engine();
  return each(args, async (name) => {
    await containers.restart(name, { timeoutS, stopSignal: flags.signal });
    return name;
  });
}
