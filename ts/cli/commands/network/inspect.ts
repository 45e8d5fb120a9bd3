/** `caisson network inspect`. */
import { type CommandShape, command } from '../../command.ts';
import { engine } from '../../connect.ts';
import { inspectEach } from '../../inspecting.ts';

const SHAPE: CommandShape = {
  name: 'network inspect',
  usage: '[OPTIONS] NETWORK [NETWORK...]',
  takes: [1],
  summary: 'Show all about networks',
  flags: [
    ['-f, --format <format>', 'json or a template'],
    ['--json', 'As --format json'],
    ['-v, --verbose', 'Kept for Docker’s sake: there is no more to tell'],
  ],
  examples: ["caisson network inspect -f '{{range .IPAM.Config}}{{.Subnet}} {{end}}' web"],
};

export default command<{ format?: string; json?: boolean }>(SHAPE, ({ flags, args }) => {
  const { networks } = engine();
  return inspectEach(args, flags.format ?? (flags.json ? 'json' : undefined), (name) => networks.inspect(name));
});
