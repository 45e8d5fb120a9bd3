/** `caisson --help`, and the help of a group. */
import { COMMANDS, type CommandEntry, type CommandGroup, GROUPS } from './commands.ts';

const EXAMPLES = `Examples:
  caisson run -it --rm alpine sh
  caisson run -d --name web -p 8080:80 nginx
  caisson logs -f web`;

const GLOBAL_OPTIONS = `Global options:
  -H, --host <address>  Engine: unix:///path/to/caisson.sock or tcp://host:port ($CAISSON_HOST, $DOCKER_HOST)
      --config <path>   Directory of docker's config.json ($DOCKER_CONFIG)
      --tls             TLS to a tcp address ($DOCKER_TLS)
      --tlsverify       TLS, with an engine that proves itself ($DOCKER_TLS_VERIFY)
      --tlscacert, --tlscert, --tlskey <path>
                        PEM files, instead of ca.pem, cert.pem and key.pem of $DOCKER_CERT_PATH
  -v, --version         Show the versions`;

function lines(entries: Record<string, { summary: string }>): string {
  const width = Math.max(...Object.keys(entries).map((key) => key.length));
  return Object.entries(entries)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, { summary }]) => `  ${key.padEnd(width)}  ${summary}`)
    .join('\n');
}

export const mainHelp = (): string =>
  `Usage:  caisson [OPTIONS] COMMAND\n\nCommands:\n${lines(COMMANDS)}\n\nGroups:\n${lines(GROUPS)}\n\n${GLOBAL_OPTIONS}\n\n${EXAMPLES}\n\nRun 'caisson COMMAND --help' for its options.\n`;

export const groupHelp = (name: string, { summary, commands }: CommandGroup): string =>
  `Usage:  caisson ${name} COMMAND\n\n${summary}\n\nCommands:\n${lines(commands)}\n\nRun 'caisson ${name} COMMAND --help' for more information.\n`;

export const commandHelp = async (entry: CommandEntry): Promise<number> => (await entry.load()).default.run(['--help']);
