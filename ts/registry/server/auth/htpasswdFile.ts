/** Changes of an htpasswd file, as `htpasswd -B` makes them; a registry that serves with it reads it again. */
import { randomBytes } from 'node:crypto';
import { readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import bcrypt from '@node-rs/bcrypt';
import { CaissonError } from '../../../errdefs.ts';
import { parseHtpasswd } from './htpasswd.ts';

const COST = 10;
/** bcrypt looks at no more. */
const MAX_PASSWORD_BYTES = 72;

/** Adds the user, or changes the password: true when he was there. The file is made when it is not there, mode 0600. */
export async function setUser(path: string, user: string, password: string): Promise<boolean> {
  if (user === '' || /[:\r\n]/.test(user) || user.startsWith('#'))
    throw invalid(`user ${JSON.stringify(user)}: a name is not empty, has no colon and does not begin with #`);
  if (password === '') throw invalid('the password is empty');
  if (Buffer.byteLength(password) > MAX_PASSWORD_BYTES)
    throw invalid(`the password is longer than the ${MAX_PASSWORD_BYTES} bytes that bcrypt looks at`);
  const hash = await bcrypt.hash(password, COST);
  return change(path, user, [`${user}:${hash}`]);
}

/** Kind NotFound when he is not there. */
export function deleteUser(path: string, user: string): void {
  if (!change(path, user, []))
    throw new CaissonError('NotFound', `htpasswd file ${path} has no user ${JSON.stringify(user)}`);
}

/** Comments and other users stay as they are; the file is replaced as a whole. */
function change(path: string, user: string, entry: string[]): boolean {
  const content = contentOf(path);
  const wasThere = parseHtpasswd(path, content).has(user);
  if (!wasThere && entry.length === 0) return false;
  const others = content.split('\n').filter((line) => line !== '' && !line.trim().startsWith(`${user}:`));
  const mode = content === '' ? 0o600 : statSync(path).mode & 0o777;
  const aside = `${path}.${randomBytes(6).toString('hex')}`;
  try {
    writeFileSync(aside, [...others, ...entry, ''].join('\n'), { mode, flag: 'wx', flush: true });
    renameSync(aside, path);
  } catch (error) {
    rmSync(aside, { force: true });
    throw new CaissonError('System', `writing htpasswd file ${path}: ${(error as Error).message}`, { cause: error });
  }
  return wasThere;
}

function contentOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw new CaissonError('System', `reading htpasswd file ${path}: ${(error as Error).message}`, { cause: error });
  }
}

const invalid = (message: string): CaissonError => new CaissonError('InvalidParameter', message);
