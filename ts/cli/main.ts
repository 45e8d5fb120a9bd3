/**
 * `caisson COMMAND …`. Only the file of the command that runs is loaded: the time to start is what a user waits for in
 * each `docker run` of a script.
 */
import { COMMANDS } from './commands.ts';
import { reportFailure } from './failure.ts';

// package.json says so too, but npm only warns of it
if (Number.parseInt(process.versions.node, 10) < 22) {
  process.stderr.write(
    `caisson: Node.js ${process.versions.node} is too old. caisson needs Node.js 22 or newer on the PATH.\n`,
  );
  process.exit(125);
}

const GLOBAL_FLAGS = new Set(['-H', '--host']);

async function main(argv: string[]): Promise<number> {
  const rest = takeGlobalFlags(argv);
  const [name, ...args] = rest;
  if (name === undefined || name === 'help' || name === '-h' || name === '--help') {
    const { printHelp } = await import('./help.ts');
    return printHelp(args[0]);
  }
  const found = COMMANDS[name === '--version' || name === '-v' ? 'version' : name];
  if (found === undefined) {
    process.stderr.write(`caisson: '${name}' is not a caisson command.\nSee 'caisson --help'\n`);
    return 125;
  }
  const { run } = await found.load();
  return run(args);
}

/** `-H ADDRESS` before the command's name, as docker takes it. */
function takeGlobalFlags(argv: string[]): string[] {
  let at = 0;
  for (; at < argv.length; at++) {
    const arg = argv[at] ?? '';
    const [flag = '', inline] = arg.split(/=(.*)/s);
    if (!GLOBAL_FLAGS.has(flag)) break;
    const value = inline ?? argv[++at];
    if (value !== undefined) process.env['CAISSON_HOST'] = value;
  }
  return argv.slice(at);
}

// `caisson logs | head`: the reader has what it wanted.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));
const code = await main(process.argv.slice(2)).catch((error: unknown) => reportFailure(error));
// Standard input may still be open, and would keep the process.
process.exit(code);
