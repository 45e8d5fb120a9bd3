/** `caisson commit`. */
import { type CommandShape, command } from '../command.ts';
import { engine } from '../connect.ts';

const SHAPE: CommandShape = {
  name: 'commit',
  usage: '[OPTIONS] CONTAINER [REPOSITORY[:TAG]]',
  takes: [1, 2],
  summary: 'Make an image of what a container changed',
  flags: [
    ['-a, --author <text>', 'Author of the image'],
    ['-c, --change <instruction>', 'Apply a Dockerfile instruction', 'list'],
    ['-m, --message <text>', 'Message for the history'],
    ['-p, --pause', 'Hold the container while its files are read', 'on'],
  ],
  examples: ['caisson commit -c \'CMD ["nginx"]\' web mine:1'],
};

interface CommitFlags {
  author?: string;
  change: string[];
  message?: string;
  pause: boolean;
}

export default command<CommitFlags>(SHAPE, async ({ flags, args }) => {
  const [container = '', name] = args;
  const { author, change: changes, message, pause } = flags;
  const id = await engine().containers.commit(container, { name, author, changes, message, pause });
  process.stdout.write(`${id}\n`);
  return 0;
});
