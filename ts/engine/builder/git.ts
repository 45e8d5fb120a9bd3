/** A git repository as a context, fetched by the host's git (as by dockerd and BuildKit). */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { cleaned } from '../../dockerignore.ts';
import { CaissonError } from '../../errdefs.ts';
import type { Native } from '../native/index.ts';
import { BuildContext } from './context.ts';
import { resolveIn } from './source.ts';

export interface GitSource {
  /** What git fetches from. */
  remote: string;
  /** A branch, a tag, a commit or any other reference; `HEAD` when none is given. */
  ref: string;
  /** '' for all of it. */
  subdir: string;
}

/** Undefined when the text is no repository: `git@…`, `ssh://…`, `git://…`, `github.com/…`, and `http(s)://….git`, each with `#REF:DIR`. */
export function gitSourceOf(text: string): GitSource | undefined {
  const [, base = '', fragment = ''] = /^([^#]*)(?:#(.*))?$/s.exec(text) ?? [];
  const isGit = /^(git@|git:\/\/|ssh:\/\/|github\.com\/)/.test(base) || /^https?:\/\/.*\.git(\?.*)?$/.test(base);
  if (!isGit) return undefined;
  const [address = '', query = ''] = base.split('?');
  const asked = new URLSearchParams(query);
  const unknown = [...asked.keys()].find((key) => !['ref', 'branch', 'tag', 'subdir'].includes(key));
  if (unknown !== undefined)
    throw new CaissonError('NotImplemented', `${text}: ?${unknown}= of a git repository is not supported by caisson`);
  const [ref = '', subdir = ''] = fragment.split(/:(.*)/s);
  const wanted = [ref, asked.get('ref'), asked.get('branch'), asked.get('tag')].find((one) => one) ?? 'HEAD';
  if (wanted.startsWith('-')) throw new CaissonError('InvalidParameter', `invalid refspec: ${wanted}`);
  const remote = address.startsWith('github.com/') ? `https://${address}` : address;
  return { remote, ref: wanted, subdir: subdir || (asked.get('subdir') ?? '') };
}

export interface GitOptions {
  native: Native;
  /** For what is in the making; the caller's to remove. */
  dir: string;
  /** `.git` is part of it. */
  keepsGitDir: boolean;
  /** For servers that want to know who asks. */
  token?: string | undefined;
  signal: AbortSignal;
}

/** Fetches no more than one commit, with its submodules. */
export async function gitContext({ remote, ref, subdir }: GitSource, options: GitOptions): Promise<BuildContext> {
  const { native, dir, keepsGitDir } = options;
  const own = join(dir, `git-${randomBytes(8).toString('hex')}`);
  const root = join(own, 'repository');
  await mkdir(root, { recursive: true });
  const git = (...args: string[]): Promise<void> => run(args, root, options);
  await git('init', '--quiet');
  await git('remote', 'add', 'origin', remote);
  const fetch = ['fetch', '--quiet', '--no-tags'];
  // a server that speaks plain HTTP alone cannot give a part
  await git(...fetch, '--depth', '1', 'origin', '--', ref).catch((error: Error) => {
    if (!/shallow|dumb http/.test(error.message)) throw error;
    return git(...fetch, 'origin', '--', ref);
  });
  await git('checkout', '--quiet', 'FETCH_HEAD');
  await git('submodule', '--quiet', 'update', '--init', '--recursive', '--depth=1');
  if (!keepsGitDir) await rm(join(root, '.git'), { recursive: true, force: true });
  const view = { overlay: { lower: [root], upper: join(own, 'upper'), work: join(own, 'work'), volatile: true } };
  for (const path of [view.overlay.upper, view.overlay.work]) await mkdir(path);
  const place = await resolveIn(native, view, cleaned(subdir));
  if (place.kind !== 'directory')
    throw new CaissonError('InvalidParameter', `error setting git context, not a directory: ${subdir}`);
  const [readFd, writeFd] = native.pipe();
  const archive = new Socket({ fd: readFd, readable: true, writable: false });
  const packed = native.readArchive(view, `/${place.path}`, writeFd, '');
  const [context] = await Promise.all([BuildContext.receive(native, join(own, 'context'), archive), packed]);
  return context;
}

/** Nothing of the user's own configuration is read, and no repository may name files of this host. */
async function run(args: string[], cwd: string, { token, signal }: GitOptions): Promise<void> {
  const login = token === undefined ? {} : configured('http.extraHeader', `Authorization: basic ${basic(token)}`);
  const env = {
    PATH: process.env['PATH'],
    HOME: '/dev/null',
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_PROTOCOL_FROM_USER: '0',
    GIT_TERMINAL_PROMPT: '0',
    GIT_SSH_COMMAND: 'ssh -o BatchMode=yes',
    ...login,
  };
  const child = spawn('git', ['-c', 'protocol.file.allow=never', '-c', 'core.hooksPath=/dev/null', ...args], {
    cwd,
    env,
    stdio: ['ignore', 'ignore', 'pipe'],
    signal,
  });
  const { code, said } = await ended(child);
  if (code === 0) return;
  const reason = said.trim().split('\n').slice(-3).join('; ') || `git ended with ${code}`;
  throw new CaissonError('InvalidParameter', `error fetching: git ${args[0]}: ${reason}`, { code: 'GIT_FAILED' });
}

const basic = (token: string): string => Buffer.from(`x-access-token:${token}`).toString('base64');

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
