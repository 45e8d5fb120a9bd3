/** `caisson kill`. */
import { type CommandShape, parseArguments, requireArguments } from '../arguments.ts';
import { engine } from '../connect.ts';
import { each } from '../each.ts';

const SHAPE: CommandShape = {
  name: 'kill',
  usage: '[OPTIONS] CONTAINER [CONTAINER...]',
  summary: 'Send a signal to containers',
  flags: [['-s, --signal <signal>', 'Signal to send (KILL)']],
  examples: ['caisson kill -s HUP web'],
  usageCode: 1,
};

export async function run(argv: string[]): Promise<number> {
  const { flags, args } = parseArguments<{ signal?: string }>(SHAPE, argv);
  requireArguments(SHAPE, args, 1);
  const { containers } = engine();
  return each(args, async (name) => {
    await containers.kill(name, flags.signal);
    return name;
  });
}
