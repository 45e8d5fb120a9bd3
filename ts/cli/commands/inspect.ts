/** `caisson inspect`. */
import { CaissonError, isKind } from '../../errdefs.ts';
import { type CommandShape, command } from '../command.ts';
import { engine } from '../connect.ts';
import { ExitCode } from '../failure.ts';
import { inspectEach } from '../inspecting.ts';

const SHAPE: CommandShape = {
  name: 'inspect',
  usage: '[OPTIONS] NAME|ID [NAME|ID...]',
  takes: [1],
  summary: 'Show all about containers, images, networks and volumes',
  flags: [
    ['-f, --format <format>', 'json or a template'],
    ['--json', 'As --format json'],
    ['-s, --size', 'Sizes of containers too'],
    ['--type <type>', 'container, image, network or volume'],
  ],
  examples: [
    'caisson inspect web',
    "caisson inspect -f '{{.State.Status}}' web",
    "caisson inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' web",
  ],
};

interface InspectFlags {
  format?: string;
  json?: boolean;
  size?: boolean;
  type?: string;
}

export default command<InspectFlags>(SHAPE, ({ flags, args }) => {
  const { containers, images, networks, volumes } = engine();
  const kinds: Record<string, (name: string) => Promise<unknown>> = {
    container: (name) => containers.inspect(name, { size: flags.size === true }),
    image: (name) => images.inspect(name),
    network: (name) => networks.inspect(name),
    volume: (name) => volumes.inspect(name),
  };
  const { type } = flags;
  const wanted = type === undefined ? Object.values(kinds) : [kinds[type]].filter((inspect) => inspect !== undefined);
  if (type !== undefined && !Object.hasOwn(kinds, type))
    throw new ExitCode(1, `caisson: unknown type: "${type}": must be one of ${Object.keys(kinds).join(', ')}`);
  return inspectEach(args, flags.format ?? (flags.json ? 'json' : undefined), async (name) => {
    for (const inspect of wanted) {
      try {
        return await inspect(name);
      } catch (error) {
        if (!isKind(error, 'NotFound') || type !== undefined) throw error;
      }
    }
    throw new CaissonError('NotFound', `No such object: ${name}`, {
      hint: 'caisson ps -a and caisson images list what is there',
    });
  });
});
