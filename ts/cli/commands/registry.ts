/** `caisson registry serve`, which becomes the registry in this process, and `caisson registry htpasswd`. */
import { text } from 'node:stream/consumers';
import { flagsHelp, htpasswdFile, serve } from '../../registry/server/main.ts';
import { ask } from '../ask.ts';
import { type CommandShape, command } from '../command.ts';
import { ExitCode } from '../failure.ts';

const USAGE = `Usage:  caisson registry serve [OPTIONS]
        caisson registry htpasswd [OPTIONS] FILE USER`;

async function run(argv: string[]): Promise<number> {
  const [verb, ...rest] = argv;
  if (verb === 'htpasswd') return htpasswd.run(rest);
  if (verb === 'help' || argv.includes('--help') || argv.includes('-h')) return printHelp();
  if (verb !== 'serve')
    throw new ExitCode(
      1,
      `caisson: ${verb === undefined ? 'a verb is missing' : `unknown verb '${verb}'`}\n\n${USAGE}`,
    );
  return serve(rest);
}

const HTPASSWD: CommandShape = {
  name: 'registry htpasswd',
  usage: '[OPTIONS] FILE USER',
  takes: [2, 2],
  summary: 'Add a user of a registry, or change the password',
  flags: [
    ['-D, --delete', 'Remove the user'],
    ['--password-stdin', 'Read the password from standard input'],
  ],
  examples: ['caisson registry htpasswd /etc/caisson/users ann', 'caisson registry htpasswd -D /etc/caisson/users ann'],
};

const htpasswd = command<{ delete?: boolean; passwordStdin?: boolean }>(HTPASSWD, async ({ flags, args }) => {
  const [path = '', user = ''] = args;
  const { deleteUser, setUser } = await htpasswdFile();
  if (flags.delete) {
    deleteUser(path, user);
    process.stdout.write(`Removed user ${user}\n`);
    return 0;
  }
  const password = flags.passwordStdin ? (await text(process.stdin)).replace(/\r?\n$/, '') : await askTwice();
  const wasThere = await setUser(path, user, password);
  process.stdout.write(wasThere ? `Changed the password of user ${user}\n` : `Added user ${user}\n`);
  return 0;
});

async function askTwice(): Promise<string> {
  const options = { echo: false, hint: 'use --password-stdin' };
  const password = await ask('Password: ', options);
  if ((await ask('Again: ', options)) !== password) throw new ExitCode(1, 'caisson: the passwords differ');
  return password;
}

function printHelp(): number {
  process.stdout.write(`${USAGE}

Serve a container registry (OCI distribution specification 1.1)

Options:
${flagsHelp()}

Examples:
  caisson registry serve
  caisson registry serve --listen 0.0.0.0:5000 --tls-cert cert.pem --tls-key key.pem --htpasswd /etc/caisson/users
  caisson registry htpasswd /etc/caisson/users ann
  caisson registry serve --upstream docker.io --upstream ghcr.io

A file for --config:
  { "htpasswd": "/etc/caisson/users", "tokens": true,
    "rights": [{ "users": ["ci"], "repositories": ["ci/**"], "actions": ["pull", "push"] },
               { "users": ["anonymous", "*"], "repositories": ["public/**"], "actions": ["pull"] }],
    "retention": [{ "repositories": ["ci/**"], "keepTags": 20, "untaggedTtl": "7d" }] }
`);
  return 0;
}

export default { run };
