/** `caisson --help`. */
import { COMMANDS } from './commands.ts';

const EXAMPLES = `Examples:
  caisson run -it --rm alpine sh
  caisson run -d --name web -p 8080:80 nginx
  caisson logs -f web`;

/** The list of all commands, or the help of one. */
export async function printHelp(name: string | undefined): Promise<number> {
  const found = name === undefined ? undefined : COMMANDS[name];
  if (found !== undefined) return (await found.load()).run(['--help']);
  const width = Math.max(...Object.keys(COMMANDS).map((key) => key.length));
  const lines = Object.entries(COMMANDS).map(([key, { summary }]) => `  ${key.padEnd(width)}  ${summary}`);
  process.stdout.write(
    `Usage: caisson [-H ADDRESS] COMMAND\n\nCommands:\n${lines.join('\n')}\n\n${EXAMPLES}\n\nRun 'caisson COMMAND --help' for its options.\n`,
  );
  return 0;
}
