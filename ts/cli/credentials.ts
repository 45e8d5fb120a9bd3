/** Credentials that `login` leaves in docker's `config.json`, or in the helper that it names. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, realpathSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { CaissonError, type Credentials } from '../client/index.ts';
import { parseReference } from '../reference.ts';

interface DockerConfig {
  auths?: Record<string, { auth?: string; username?: string; password?: string; identitytoken?: string }>;
  credsStore?: string;
  credHelpers?: Record<string, string>;
  [other: string]: unknown;
}

const HUB = 'https://index.docker.io/v1/';

/** Those of the image's own registry; never another one's. */
export function credentialsFor(image: string): Credentials | undefined {
  return credentialsOfServer(parseReference(image).domain);
}

/** Docker Hub is known by the URL of its old index. */
export function serverOf(host: string): string {
  const bare = hostOf(host);
  return ['', 'docker.io', 'index.docker.io', 'registry-1.docker.io'].includes(bare) ? HUB : bare;
}

/** `domain`: a registry's host, or docker.io. */
export function credentialsOfServer(domain: string): Credentials | undefined {
  const server = serverOf(domain);
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

/** All logins that are kept in the file itself or with the helper of one registry, by registry. */
export function allCredentials(): Record<string, { auth: string }> {
  const { auths = {}, credHelpers = {} } = readConfig();
  const servers = new Set([...Object.keys(auths), ...Object.keys(credHelpers)]);
  return Object.fromEntries(
    [...servers].flatMap((server) => {
      const found = credentialsOfServer(server === HUB ? 'docker.io' : hostOf(server));
      if (found?.password === undefined) return [];
      return [[server, { auth: Buffer.from(`${found.username ?? ''}:${found.password}`).toString('base64') }]];
    }),
  );
}

/** Keeps a login for later commands. Tells where it stands unencrypted; undefined when a helper has it. */
export function storeCredentials({
  username = '',
  password = '',
  identitytoken,
  serveraddress = '',
}: Credentials): string | undefined {
  const config = readConfig();
  const helper = config.credHelpers?.[serveraddress] ?? config.credsStore;
  if (helper) {
    const secret = identitytoken
      ? { Username: '<token>', Secret: identitytoken }
      : { Username: username, Secret: password };
    callHelper(helper, 'store', JSON.stringify({ ServerURL: serveraddress, ...secret }));
    return undefined;
  }
  const auth = Buffer.from(`${username}:${identitytoken ? '' : password}`).toString('base64');
  const entry = { auth, ...(identitytoken && { identitytoken }) };
  return writeConfig({ ...config, auths: { ...config.auths, [serveraddress]: entry } });
}

/** False when there was no login. */
export function eraseCredentials(server: string): boolean {
  const config = readConfig();
  const helper = config.credHelpers?.[server] ?? config.credsStore;
  const kept = Object.entries(config.auths ?? {}).filter(([name]) => serverOf(name) !== server);
  const had = kept.length < Object.keys(config.auths ?? {}).length;
  if (helper) callHelper(helper, 'erase', server);
  if (had) writeConfig({ ...config, auths: Object.fromEntries(kept) });
  return had || Boolean(helper);
}

const configPath = (): string => join(process.env['DOCKER_CONFIG'] ?? join(homedir(), '.docker'), 'config.json');

/** Whole or not at all, and where a link leads: dotfiles are often kept elsewhere. */
function writeConfig(config: DockerConfig): string {
  const path = configPath();
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const target = realpathOf(path);
  const partial = `${target}.${process.pid}`;
  try {
    writeFileSync(partial, `${JSON.stringify(config, undefined, '\t')}\n`, { mode: 0o600 });
    renameSync(partial, target);
  } catch (error) {
    rmSync(partial, { force: true });
    throw error;
  }
  return path;
}

function realpathOf(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

function readConfig(): DockerConfig {
  const path = configPath();
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
function callHelper(
  helper: string,
  action: 'get' | 'store' | 'erase',
  input: string,
): { failed: boolean; output: string } {
  const program = `docker-credential-${helper}`;
  const { error, status, stdout } = spawnSync(program, [action], { input, encoding: 'utf8' });
  if (error !== undefined)
    throw new CaissonError('System', `error getting credentials: ${program}: ${error.message}`, {
      hint: `install ${program}, or take it out of docker's config.json`,
      cause: error,
    });
  if (status !== 0 && action === 'store')
    throw new CaissonError('System', `error saving credentials: ${program}: ${stdout.trim().slice(0, 500)}`);
  return { failed: status !== 0, output: stdout };
}

function askHelper(helper: string, server: string): Credentials | undefined {
  const { failed, output } = callHelper(helper, 'get', server);
  if (failed) {
    if (/credentials not found/.test(output)) return undefined;
    throw new CaissonError(
      'System',
      `error getting credentials: docker-credential-${helper}: ${output.trim().slice(0, 500)}`,
    );
  }
  const { Username, Secret } = JSON.parse(output) as { Username?: string; Secret?: string };
  if (Username === undefined || Secret === undefined) return undefined;
  return Username === '<token>'
    ? { identitytoken: Secret, serveraddress: server }
    : { username: Username, password: Secret, serveraddress: server };
}
