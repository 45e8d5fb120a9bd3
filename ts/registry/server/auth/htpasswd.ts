/**
 * Users of an htpasswd file with bcrypt hashes (`htpasswd -B`), read again when the file changes. What was right is
 * remembered for a while: a client of Basic sends its password with each request, and a hash costs 50 ms and more.
 */
import { createHmac, randomBytes } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import bcrypt from '@node-rs/bcrypt';
import { Semaphore } from '../../../async.ts';
import { CaissonError } from '../../../errdefs.ts';

const REMEMBERED_MS = 60_000;
const MAX_REMEMBERED = 10_000;
/** bcrypt runs in libuv's pool, which reads and writes blobs too. */
const MAX_AT_ONCE = 2;

export class Htpasswd {
  readonly #path: string;
  readonly #key = randomBytes(32);
  readonly #remembered = new Map<string, number>();
  readonly #slots = new Semaphore(MAX_AT_ONCE);
  #users = new Map<string, string>();
  #readAt = '';

  /** Kind InvalidParameter for a file that cannot be read or holds hashes that are not bcrypt's. */
  constructor(path: string) {
    this.#path = path;
    this.#refresh();
  }

  async check(user: string, password: string): Promise<boolean> {
    this.#refresh();
    const hash = this.#users.get(user);
    const key = createHmac('sha256', this.#key).update(`${user}\0${hash}\0${password}`).digest('base64');
    const now = Date.now();
    if ((this.#remembered.get(key) ?? 0) > now) return true;
    // Who is not known takes as long as who is.
    const right = await this.#slots.run(() => bcrypt.verify(password, hash ?? this.#anyHash()));
    if (hash === undefined || !right) return false;
    if (this.#remembered.size >= MAX_REMEMBERED) this.#remembered.clear();
    this.#remembered.set(key, now + REMEMBERED_MS);
    return true;
  }

  #anyHash(): string {
    return this.#users.values().next().value ?? '$2b$10$7EqJtq98hPqEX7fNZaFWoOhi5BWX4Z1Z5Y5Z1Z5Y5Z1Z5Y5Z1Z5Y5';
  }

  #refresh(): void {
    const { mtimeMs, size, ino } = statOf(this.#path);
    const version = `${mtimeMs} ${size} ${ino}`;
    if (version === this.#readAt) return;
    const users = parseHtpasswd(this.#path, readFileSync(this.#path, 'utf8'));
    this.#users = users;
    this.#readAt = version;
  }
}

function statOf(path: string): { mtimeMs: number; size: number; ino: number } {
  try {
    return statSync(path);
  } catch (error) {
    throw new CaissonError('InvalidParameter', `htpasswd file ${path}: ${(error as Error).message}`);
  }
}

/** The hash of each user. `path` is for messages. */
export function parseHtpasswd(path: string, content: string): Map<string, string> {
  const users = new Map<string, string>();
  for (const [at, line] of content.split('\n').entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    const [, user = '', hash = ''] = /^([^:]+):(.*)$/.exec(line.trim()) ?? [];
    if (!/^\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}$/.test(hash))
      throw new CaissonError('InvalidParameter', `htpasswd file ${path}, line ${at + 1}: no user with a bcrypt hash`, {
        hint: `make entries by: caisson registry htpasswd ${path} USER`,
      });
    users.set(user, hash);
  }
  return users;
}
