/**
 * `caisson COMMAND …`. Only the file of the command that runs is loaded: the time to start is what a user waits for in
 * each `docker run` of a script.
 */
import { findCommand } from './commands.ts';
import { ExitCode, reportFailure } from './failure.ts';

// package.json says so too, but npm only warns of it
if (Number.parseInt(process.versions.node, 10) < 22) {
  process.stderr.write(
    `caisson: Node.js ${process.versions.node} is too old. caisson needs Node.js 22 or newer on the PATH.\n`,
  );
  process.exit(125);
}

/** Global flags and the variable that each stands for. */
const GLOBAL_FLAGS: Record<string, string> = {
  '-H': 'CAISSON_HOST',
  '--host': 'CAISSON_HOST',
  '--config': 'DOCKER_CONFIG',
  '--tlscacert': 'DOCKER_TLS_CACERT',
  '--tlscert': 'DOCKER_TLS_CERT',
  '--tlskey': 'DOCKER_TLS_KEY',
};
/** Those without a value. */
const GLOBAL_SWITCHES: Record<string, string> = { '--tls': 'DOCKER_TLS', '--tlsverify': 'DOCKER_TLS_VERIFY' };

async function main(argv: string[]): Promise<number> {
  const words = takeGlobalFlags(argv);
  const [name = ''] = words;
  if (name === '' || name === '-h' || name === '--help') return help([]);
  if (name === '__complete') return (await import('./complete.ts')).complete(words.slice(1));
  if (name === 'help') return help(words.slice(1));
  if (name === '--version' || name === '-v') words[0] = 'version';
  const found = findCommand(words);
  if (found.kind === 'command') return (await found.entry.load()).default.run(found.rest);
  const [verb] = found.kind === 'group' ? found.rest : [name];
  if (found.kind === 'group' && (verb === undefined || verb === '--help' || verb === 'help'))
    return help(words.slice(0, 1));
  const where = found.kind === 'group' ? `caisson ${found.name}` : 'caisson';
  process.stderr.write(`caisson: unknown command: ${where} ${verb}\n\nRun '${where} --help' for more information\n`);
  return 1;
}

async function help(words: string[]): Promise<number> {
  const { commandHelp, groupHelp, mainHelp } = await import('./help.ts');
  const found = findCommand(words);
  if (found.kind === 'command') return commandHelp(found.entry);
  process.stdout.write(found.kind === 'group' ? groupHelp(found.name, found.group) : mainHelp());
  return 0;
}

/** Flags before the command's name, as docker takes them. */
function takeGlobalFlags(argv: string[]): string[] {
  let at = 0;
  for (; at < argv.length; at++) {
    const [flag = '', inline] = (argv[at] ?? '').split(/=(.*)/s);
    const on = GLOBAL_SWITCHES[flag];
    if (on !== undefined) {
      process.env[on] = inline === undefined || /^(?:1|t|true)$/i.test(inline) ? '1' : '';
      continue;
    }
    const variable = GLOBAL_FLAGS[flag];
    if (variable === undefined) break;
    const value = inline ?? argv[++at];
    if (value === undefined) throw new ExitCode(125, `caisson: flag needs an argument: ${flag}`);
    process.env[variable] = value;
  }
  return argv.slice(at);
}

// `caisson logs | head`: the reader has what it wanted.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));
const code = await main(process.argv.slice(2)).catch((error: unknown) => reportFailure(error));
// Standard input may still be open, and would keep the process.
process.exit(code);
