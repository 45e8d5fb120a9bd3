/** `caisson commit`. */
import { type CommandShape, parseArguments, requireArguments } from '../arguments.ts';
import { engine } from '../connect.ts';

const SHAPE: CommandShape = {
  name: 'commit',
  usage: '[OPTIONS] CONTAINER [REPOSITORY[:TAG]]',
  summary: 'Make an image of what a container changed',
  flags: [
    ['-a, --author <text>', 'Author of the image'],
    ['-c, --change <instruction>', 'Apply a Dockerfile instruction', 'list'],
    ['-m, --message <text>', 'Message for the history'],
    ['--no-pause', 'Let the container go on while its files are read'],
  ],
  examples: ['caisson commit -c \'CMD ["nginx"]\' web mine:1'],
  usageCode: 1,
};

interface CommitFlags {
  author?: string;
  change: string[];
  message?: string;
  pause: boolean;
}

export async function run(argv: string[]): Promise<number> {
  const { flags, args } = parseArguments<CommitFlags>(SHAPE, argv);
  requireArguments(SHAPE, args, 1, 2);
  const [container = '', name] = args;
  const { author, change: changes, message, pause } = flags;
  const id = await engine().containers.commit(container, { name, author, changes, message, pause });
  process.stdout.write(`${id}\n`);
  return 0;
}
