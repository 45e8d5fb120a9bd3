/** `caisson create`. */
import { type CommandShape, command } from '../command.ts';
import { engineOrStart } from '../connect.ts';
import { CONTAINER_FLAGS, type ContainerFlags } from '../containerFlags.ts';
import { ExitCode } from '../failure.ts';
import { createContainer, startFailure } from '../runContainer.ts';
import { FlagError } from '../units.ts';

const SHAPE: CommandShape = {
  name: 'create',
  usage: '[OPTIONS] IMAGE [COMMAND] [ARG...]',
  takes: [1],
  summary: 'Create a new container',
  flags: CONTAINER_FLAGS,
  examples: ['caisson create --name job alpine echo hello', 'caisson start -a job'],
  passThrough: true,
};

export default command<ContainerFlags>(SHAPE, async ({ flags, args }) => {
  const streams = { stdin: flags.interactive === true, stdout: true, stderr: true };
  try {
    const id = await createContainer(await engineOrStart(), flags, args, streams);
    process.stdout.write(`${id}\n`);
    return 0;
  } catch (error) {
    if (error instanceof ExitCode || error instanceof FlagError) throw error;
    const failed = startFailure(error, 'create');
    // Nothing was executed: only a start has 126 and 127.
    throw new ExitCode(1, failed.message);
  }
});
