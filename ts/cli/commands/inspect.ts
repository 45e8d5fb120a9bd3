/** `caisson inspect`. */
import { CaissonError } from '../../client/index.ts';
import { type CommandShape, parseArguments, requireArguments } from '../arguments.ts';
import { engine } from '../connect.ts';
import { ExitCode, reportFailure } from '../failure.ts';
import { template } from '../format.ts';

const SHAPE: CommandShape = {
  name: 'inspect',
  usage: '[OPTIONS] NAME|ID [NAME|ID...]',
  summary: 'Show all about containers and images',
  flags: [
    ['-f, --format <format>', 'json or a template'],
    ['-s, --size', 'Sizes of containers too'],
    ['--type <type>', 'container or image'],
  ],
  examples: ['caisson inspect web', "caisson inspect -f '{{.State.Status}}' web"],
  usageCode: 1,
};

interface InspectFlags {
  format?: string;
  size?: boolean;
  type?: string;
}

export async function run(argv: string[]): Promise<number> {
  const { flags, args } = parseArguments<InspectFlags>(SHAPE, argv);
  requireArguments(SHAPE, args, 1);
  if (flags.type !== undefined && flags.type !== 'container' && flags.type !== 'image')
    throw new ExitCode(1, `caisson: "${flags.type}" is not a valid value for --type: use container or image`);
  const render = flags.format === undefined ? undefined : template(flags.format);
  const found: unknown[] = [];
  let code = 0;
  for (const name of args) {
    try {
      found.push(await inspect(name, flags));
    } catch (error) {
      code = reportFailure(error);
    }
  }
  if (render === undefined) process.stdout.write(`${JSON.stringify(found, null, 4)}\n`);
  else for (const object of found) process.stdout.write(`${render(object)}\n`);
  return code;
}

async function inspect(name: string, { type, size = false }: InspectFlags): Promise<unknown> {
  const { containers, images } = engine();
  const asks = [
    ...(type === 'image' ? [] : [() => containers.inspect(name, { size })]),
    ...(type === 'container' ? [] : [() => images.inspect(name)]),
  ];
  for (const [i, ask] of asks.entries()) {
    try {
      return await ask();
    } catch (error) {
      const missing = error instanceof CaissonError && error.kind === 'NotFound';
      if (!missing || (i === asks.length - 1 && type !== undefined)) throw error;
    }
  }
  throw new CaissonError('NotFound', `No such object: ${name}`);
}
