/** `caisson logout`. */
import { type CommandShape, command } from '../command.ts';
import { eraseCredentials, serverOf } from '../credentials.ts';

const SHAPE: CommandShape = {
  name: 'logout',
  usage: '[SERVER]',
  takes: [0, 1],
  summary: 'Forget the login of a registry; of Docker Hub when none is given',
  flags: [],
  examples: ['caisson logout registry.example'],
};

export default command(SHAPE, async ({ args }) => {
  const server = serverOf(args[0] ?? '');
  if (eraseCredentials(server)) process.stdout.write(`Removing login credentials for ${server}\n`);
  else process.stdout.write(`Not logged in to ${server}\n`);
  return 0;
});
