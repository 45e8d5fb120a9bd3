/** Builds by BuildKit's protocol while they go on, and a moment after. */
import { describe, expect, it } from 'vitest';
import { Solve, Solves } from '../../ts/engine/buildkit/solves.ts';

const REQUEST = { ref: 'a', sessionId: '', entitlements: [], exporters: [], isInternal: false };
const begun = (): Solve => new Solve(REQUEST, new AbortController().signal);

describe('a build', () => {
  it('is known to a call that comes before it', async () => {
    const solves = new Solves();
    const solve = begun();
    const found = solves.get('a');
    await solves.run(solve, async () => expect(await found).toBe(solve));
  });

  it('tells a call that comes after it what it has told', async () => {
    const solves = new Solves();
    const solve = begun();
    await solves.run(solve, async () => solve.status.vertex('short').end());
    const names: string[] = [];
    for await (const { vertexes } of (await solves.get('a')).status.follow())
      names.push(...vertexes.map(({ name }) => name));
    expect(names).toEqual(['short', 'short']);
  });

  it('has a name of its own while it goes on', async () => {
    const solves = new Solves();
    await solves.run(begun(), async () => {
      await expect(solves.run(begun(), async () => undefined)).rejects.toThrow('a build named a is under way');
    });
    await solves.run(begun(), async () => undefined);
  });
});
