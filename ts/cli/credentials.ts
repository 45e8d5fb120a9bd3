/** Credentials that `docker login` has left in `config.json`, or in the helper that it names. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { CaissonError, type Credentials } from '../client/index.ts';
import { parseReference } from '../reference.ts';

interface DockerConfig {
  auths?: Record<string, { auth?: string; username?: string; password?: string; identitytoken?: string }>;
  credsStore?: string;
  credHelpers?: Record<string, string>;
}

const HUB = 'https://index.docker.io/v1/';

/** Those of the image's own registry; never another one's. */
export function credentialsFor(image: string): Credentials | undefined {
  const { domain } = parseReference(image);
  const server = domain === 'docker.io' ? HUB : domain;
  const config = readConfig();
  const helper = config.credHelpers?.[server] ?? config.credsStore;
  if (helper !== undefined && helper !== '') return askHelper(helper, server);
  const entry = Object.entries(config.auths ?? {}).find(
    ([name]) => name === server || (server !== HUB && hostOf(name) === server),
  )?.[1];
  if (entry === undefined) return undefined;
  const [username = '', password = ''] =
    entry.auth === undefined ? [entry.username, entry.password] : splitAuth(entry.auth);
  return {
    ...(username !== '' && { username }),
    ...(password !== '' && { password }),
    ...(entry.identitytoken && { identitytoken: entry.identitytoken }),
    serveraddress: server,
  };
}

function readConfig(): DockerConfig {
  const path = join(process.env['DOCKER_CONFIG'] ?? join(homedir(), '.docker'), 'config.json');
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch {
    return {};
  }
  try {
    return JSON.parse(text) as DockerConfig;
  } catch (error) {
    throw new CaissonError('InvalidParameter', `${path} is not JSON: ${(error as Error).message}`, { cause: error });
  }
}

/** Old entries are URLs. */
const hostOf = (name: string): string => name.replace(/^https?:\/\//, '').split('/', 1)[0] ?? '';

function splitAuth(auth: string): [string, string] {
  const text = Buffer.from(auth, 'base64').toString();
  const at = text.indexOf(':');
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}

/** A helper that is missing is an error, not a reason to try something else (CVE-2021-41092). */
function askHelper(helper: string, server: string): Credentials | undefined {
  const program = `docker-credential-${helper}`;
  const { error, status, stdout } = spawnSync(program, ['get'], { input: server, encoding: 'utf8' });
  if (error !== undefined)
    throw new CaissonError('System', `error getting credentials: ${program}: ${error.message}`, {
      hint: `install ${program}, or take it out of docker's config.json`,
      cause: error,
    });
  if (status !== 0) {
    if (/credentials not found/.test(stdout)) return undefined;
    throw new CaissonError('System', `error getting credentials: ${program}: ${stdout.trim().slice(0, 500)}`);
  }
  const { Username, Secret } = JSON.parse(stdout) as { Username?: string; Secret?: string };
  if (Username === undefined || Secret === undefined) return undefined;
  return Username === '<token>'
    ? { identitytoken: Secret, serveraddress: server }
    : { username: Username, password: Secret, serveraddress: server };
}
