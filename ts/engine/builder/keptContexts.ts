/**
 * Contexts that clients have sent for earlier builds, so that what has not changed need not come again. They last as long
 * as the daemon, a few of them.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { Engine } from '../engine.ts';
import { BuildContext } from './context.ts';

/** So many are kept. */
const MOST = 8;

export interface KeptContext {
  readonly id: string;
  readonly dir: string;
  readonly context: BuildContext;
  /** What each file looked like at its client. */
  stamps: Map<string, string>;
  used: Date;
  inUse: boolean;
}

export class KeptContexts {
  readonly #engine: Pick<Engine, 'native' | 'paths'>;
  /** By whom they are from; the one that was used longest ago first. */
  readonly #kept = new Map<string, KeptContext>();

  constructor(engine: Pick<Engine, 'native' | 'paths'>) {
    this.#engine = engine;
  }

  all(): KeptContext[] {
    return [...this.#kept.values()];
  }

  /** For one build alone, until `release`. */
  async take(key: string): Promise<KeptContext> {
    const there = this.#kept.get(key);
    if (there !== undefined && !there.inUse) {
      there.inUse = true;
      return there;
    }
    const id = randomBytes(12).toString('hex');
    // emptied when the daemon starts
    const dir = join(this.#engine.paths.tmp, `context-${id}`);
    const made = { id, dir, context: await BuildContext.empty(dir), stamps: new Map(), used: new Date(), inUse: true };
    // beside one that is in use it is for this build alone
    if (!this.#kept.has(key)) this.#kept.set(key, made);
    return made;
  }

  /** `isWhole`: it holds what its stamps say. */
  async release(key: string, kept: KeptContext, isWhole: boolean): Promise<void> {
    kept.inUse = false;
    kept.used = new Date();
    const isOwn = this.#kept.get(key) === kept;
    if (isOwn) this.#kept.delete(key);
    if (isOwn && isWhole) this.#kept.set(key, kept);
    else await this.#engine.native.removeTree(kept.dir);
    for (const { id, inUse } of this.all().slice(0, Math.max(0, this.#kept.size - MOST)))
      if (!inUse) await this.remove(id);
  }

  /** Nothing, when it is in use. */
  async remove(id: string): Promise<void> {
    const [key, kept] = [...this.#kept].find(([, one]) => one.id === id) ?? [];
    if (key === undefined || kept === undefined || kept.inUse) return;
    this.#kept.delete(key);
    await this.#engine.native.removeTree(kept.dir);
  }
}
