/** A git repository as a context, fetched by the host's git (as by dockerd and BuildKit). */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { CaissonError } from '../../errdefs.ts';
import type { Native } from '../native/index.ts';
import type { BuildClient } from './builder.ts';
import { BuildContext } from './context.ts';

export interface GitSource {
  /** What git fetches from. */
  remote: string;
  /** A branch, a tag, a commit or any other reference; `HEAD` when none is given. */
  ref: string;
  /** '' for all of it. */
  subdir: string;
  /** The commit that the reference must lead to, or how it begins. */
  checksum: string | undefined;
  /** `.git` is part of it; undefined: as whoever fetches it says. */
  keepsGitDir: boolean | undefined;
  hasSubmodules: boolean;
}

/** Undefined when the text is no repository: `git@…`, `ssh://…`, `git://…`, `github.com/…`, and `http(s)://….git`, each with `#REF:DIR`. */
export function gitSourceOf(text: string): GitSource | undefined {
  const [, base = '', fragment = ''] = /^([^#]*)(?:#(.*))?$/s.exec(text) ?? [];
  const isGit = /^(git@|git:\/\/|ssh:\/\/|github\.com\/)/.test(base) || /^https?:\/\/.*\.git(\?.*)?$/.test(base);
  if (!isGit) return undefined;
  const [address = '', query = ''] = base.split('?');
  const asked = new URLSearchParams(query);
  const unknown = [...asked.keys()].find((key) => !KEYS.includes(key));
  if (unknown !== undefined)
    throw new CaissonError('InvalidParameter', `unexpected query ${JSON.stringify(unknown)} of ${text}`);
  const [ref = '', subdir = ''] = fragment.split(/:(.*)/s);
  const checksum = asked.get('checksum') || asked.get('commit') || undefined;
  const named = [
    ref,
    asked.get('ref'),
    asked.get('branch') && `refs/heads/${asked.get('branch')}`,
    asked.get('tag') && `refs/tags/${asked.get('tag')}`,
  ].filter((one) => one);
  const wanted = named[0] ?? (isWhole(checksum) ? checksum : undefined) ?? 'HEAD';
  const other = named.find((one) => one !== wanted);
  if (other !== undefined) throw new CaissonError('InvalidParameter', `ref conflicts: ${wanted} and ${other}`);
  if (wanted.startsWith('-')) throw new CaissonError('InvalidParameter', `invalid refspec: ${wanted}`);
  return {
    remote: address.startsWith('github.com/') ? `https://${address}` : address,
    ref: wanted,
    subdir: subdir || (asked.get('subdir') ?? ''),
    checksum,
    keepsGitDir: switched(asked, 'keep-git-dir'),
    hasSubmodules: switched(asked, 'submodules') ?? true,
  };
}

const KEYS = ['ref', 'branch', 'tag', 'subdir', 'checksum', 'commit', 'keep-git-dir', 'submodules'];

/** Of a commit, not only how its name begins. */
const isWhole = (text = ''): boolean => /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/.test(text);

function switched(asked: URLSearchParams, key: string): boolean | undefined {
  const value = asked.get(key);
  if (value === null) return undefined;
  if (!/^(true|false|0|1)?$/i.test(value))
    throw new CaissonError('InvalidParameter', `invalid ${key} value: ${JSON.stringify(value)}`);
  return !/^(false|0)$/i.test(value);
}

export interface GitOptions {
  native: Native;
  /** For what is in the making; the caller's to remove. */
  dir: string;
  /** `.git` is part of it. */
  keepsGitDir: boolean;
  /** For servers that want to know who asks. */
  client?: BuildClient | undefined;
  signal: AbortSignal;
}

/** Fetches no more than one commit, with its submodules. */
export async function gitContext(
  source: GitSource,
  options: GitOptions,
): Promise<{ context: BuildContext; commit: string }> {
  const { ref, subdir, checksum, hasSubmodules, keepsGitDir = options.keepsGitDir } = source;
  const { native, dir, signal } = options;
  const own = join(dir, `git-${randomBytes(8).toString('hex')}`);
  const root = join(own, 'repository');
  await mkdir(root, { recursive: true });
  const access = await accessTo(source.remote, join(own, 'agent'), options.client);
  try {
    const git = (...args: string[]): Promise<void> => run(args, { cwd: root, env: access.env, signal });
    const fetch = ['fetch', '--quiet', '--no-tags'];
    let found = 'FETCH_HEAD';
    const begin = async (format: 'sha1' | 'sha256'): Promise<void> => {
      await git('init', '--quiet', `--object-format=${format}`);
      await git('remote', 'add', 'origin', source.remote);
      await inPart(git, fetch, ['origin', '--', ref]).catch(async (error: Error) => {
        // such servers know no commits, only names
        if (!isWhole(ref) || !/does not contain ref/.test(error.message)) throw error;
        await git(...fetch, 'origin', '+refs/*:refs/remotes/origin/*');
        found = ref;
      });
    };
    await begin('sha1').catch(async (error: Error) => {
      if (!/bad revision|mismatched algorithms|did not send all necessary objects/.test(error.message)) throw error;
      await rm(join(root, '.git'), { recursive: true, force: true });
      await begin('sha256');
    });
    await git('checkout', '--quiet', found);
    const commit = (await readFile(join(root, '.git/HEAD'), 'utf8')).trim();
    if (checksum !== undefined && !commit.startsWith(checksum))
      throw new CaissonError('InvalidParameter', `expected checksum to match ${checksum}, got ${commit}`);
    if (hasSubmodules) await inPart(git, ['submodule', '--quiet', 'update', '--init', '--recursive'], []);
    return { context: await unpacked(native, own, root, subdir, keepsGitDir), commit };
  } finally {
    access.release();
  }
}

/** The last commit alone, of servers that can give a part: those that speak plain HTTP alone cannot. */
async function inPart(git: (...args: string[]) => Promise<void>, command: string[], names: string[]): Promise<void> {
  await git(...command, '--depth=1', ...names).catch((error: Error) => {
    if (!/shallow|dumb http/.test(error.message)) throw error;
    return git(...command, ...names);
  });
}

async function unpacked(
  native: Native,
  own: string,
  root: string,
  subdir: string,
  keepsGitDir: boolean,
): Promise<BuildContext> {
  if (!keepsGitDir) await rm(join(root, '.git'), { recursive: true, force: true });
  const view = { overlay: { lower: [root], upper: join(own, 'upper'), work: join(own, 'work'), volatile: true } };
  for (const path of [view.overlay.upper, view.overlay.work]) await mkdir(path);
  return BuildContext.below(native, join(own, 'context'), view, subdir);
}

interface Access {
  env: Record<string, string>;
  release(): void;
}

/** What the client lends: its agent (made reachable at `socket`) to servers that speak SSH, a secret to those that speak HTTP. */
async function accessTo(remote: string, socket: string, client: BuildClient | undefined): Promise<Access> {
  const url = URL.canParse(remote) ? new URL(remote) : undefined;
  if (url === undefined || url.protocol === 'ssh:') {
    const release = await client?.agent('default', socket);
    return release === undefined ? OPEN : { env: { SSH_AUTH_SOCK: socket }, release };
  }
  const secret = async (name: string): Promise<string | undefined> => {
    const value = (await client?.secret(`${name}.${url.host}`)) ?? (await client?.secret(name));
    return value && Buffer.from(value).toString('utf8').trim();
  };
  const header = await secret('GIT_AUTH_HEADER');
  const token = header === undefined ? await secret('GIT_AUTH_TOKEN') : undefined;
  const login = header ?? (token && `basic ${Buffer.from(`x-access-token:${token}`).toString('base64')}`);
  return login ? { ...OPEN, env: configured('http.extraHeader', `Authorization: ${login}`) } : OPEN;
}

const OPEN: Access = { env: {}, release: () => undefined };

interface RunOptions {
  cwd: string;
  env: Access['env'];
  signal: AbortSignal;
}

/** Nothing of the user's own configuration is read, and no repository may name files of this host. */
async function run(args: string[], { cwd, env: access, signal }: RunOptions): Promise<void> {
  const env = {
    PATH: process.env['PATH'],
    HOME: '/dev/null',
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_PROTOCOL_FROM_USER: '0',
    GIT_TERMINAL_PROMPT: '0',
    // as BuildKit: a server that this host does not know is taken at its word
    GIT_SSH_COMMAND:
      'ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=/dev/null',
    ...access,
  };
  const child = spawn('git', ['-c', 'protocol.file.allow=never', '-c', 'core.hooksPath=/dev/null', ...args], {
    cwd,
    env,
    stdio: ['ignore', 'ignore', 'pipe'],
    signal,
  });
  const { code, said } = await ended(child);
  if (code === 0) return;
  if (/couldn't find remote ref/.test(said))
    throw new CaissonError('InvalidParameter', `repository does not contain ref ${args.at(-1)}`, {
      code: 'GIT_FAILED',
    });
  const reason = said.trim().split('\n').slice(-3).join('; ') || `git ended with ${code}`;
  throw new CaissonError('InvalidParameter', `error fetching: git ${args[0]}: ${reason}`, { code: 'GIT_FAILED' });
}

/** One entry of git's configuration that no argument shows. */
const configured = (key: string, value: string): Record<string, string> => ({
  GIT_CONFIG_COUNT: '1',
  GIT_CONFIG_KEY_0: key,
  GIT_CONFIG_VALUE_0: value,
});

function ended(child: ChildProcess): Promise<{ code: number | null; said: string }> {
  return new Promise((resolve, reject) => {
    let said = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-4096);
    });
    child.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') reject(error);
      else
        reject(
          new CaissonError('Unavailable', 'a git repository is fetched by git, which this host does not have', {
            hint: 'install git, or build from a directory',
            cause: error,
          }),
        );
    });
    child.once('close', (code) => resolve({ code, said }));
  });
}
