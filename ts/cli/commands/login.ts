/** `caisson login`. */
import { text } from 'node:stream/consumers';
import { ask } from '../ask.ts';
import { type CommandShape, command } from '../command.ts';
import { engineOrStart } from '../connect.ts';
import { serverOf, storeCredentials } from '../credentials.ts';
import { ExitCode } from '../failure.ts';

const SHAPE: CommandShape = {
  name: 'login',
  usage: '[OPTIONS] [SERVER]',
  takes: [0, 1],
  summary: 'Log in to a registry; Docker Hub when none is given',
  flags: [
    ['-p, --password <text>', 'Password or token; others on this machine can see it'],
    ['--password-stdin', 'Read the password from standard input'],
    ['-u, --username <text>', 'User'],
  ],
  examples: ['caisson login -u ann --password-stdin registry.example < password'],
};

const NO_TERMINAL = 'use --username and --password-stdin';

interface LoginFlags {
  password?: string;
  passwordStdin?: boolean;
  username?: string;
}

export default command<LoginFlags>(SHAPE, async ({ flags, args }) => {
  if (flags.password !== undefined && flags.passwordStdin)
    throw new ExitCode(1, 'caisson: conflicting options: cannot specify both --password and --password-stdin');
  if (flags.passwordStdin && flags.username === undefined)
    throw new ExitCode(1, 'caisson: the --password-stdin option requires --username to be set');
  const serveraddress = serverOf(args[0] ?? '');
  const username = flags.username ?? (await ask('Username: ', { echo: true, hint: NO_TERMINAL }));
  const password = await passwordOf(flags);
  if (username === '' || password === '') throw new ExitCode(1, 'caisson: username and password are required');
  const credentials = { username, password, serveraddress };
  const { identityToken } = await (await engineOrStart()).login(credentials);
  const where = storeCredentials({ ...credentials, ...(identityToken && { identitytoken: identityToken }) });
  if (where !== undefined) process.stderr.write(`WARNING! Your credentials are stored unencrypted in '${where}'.\n`);
  process.stdout.write('Login Succeeded\n');
  return 0;
});

async function passwordOf(flags: LoginFlags): Promise<string> {
  if (flags.passwordStdin) return (await text(process.stdin)).replace(/\r?\n$/, '');
  if (flags.password === undefined) return ask('Password: ', { echo: false, hint: NO_TERMINAL });
  process.stderr.write('WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n');
  return flags.password;
}
