/** `caisson logout`. */
import { type CommandShape, parseArguments, requireArguments } from '../arguments.ts';
import { eraseCredentials, serverOf } from '../credentials.ts';

const SHAPE: CommandShape = {
  name: 'logout',
  usage: '[SERVER]',
  summary: 'Forget the login of a registry; of Docker Hub when none is given',
  flags: [],
  examples: ['caisson logout registry.example'],
  usageCode: 1,
};

export async function run(argv: string[]): Promise<number> {
  const { args } = parseArguments<object>(SHAPE, argv);
  requireArguments(SHAPE, args, 0, 1);
  const server = serverOf(args[0] ?? '');
  if (eraseCredentials(server)) process.stdout.write(`Removing login credentials for ${server}\n`);
  else process.stdout.write(`Not logged in to ${server}\n`);
  return 0;
}
