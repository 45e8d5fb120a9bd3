/** Builds by BuildKit's protocol while they go on, and a moment after. */
import { describe, expect, it } from 'vitest';
import type { StatusResponse } from '../../ts/engine/buildkit/proto/control_pb.ts';
import { Solve, Solves } from '../../ts/engine/buildkit/solves.ts';
import type { StatusLog } from '../../ts/engine/buildkit/status.ts';

const REQUEST = { ref: 'a', sessionId: '', entitlements: [], exporters: [], isInternal: false };
const begun = (): Solve => new Solve(REQUEST, new AbortController().signal);

/** Names of steps, and what they wrote. */
async function collect(messages: AsyncIterable<StatusResponse>): Promise<string[]> {
  const all: string[] = [];
  for await (const { vertexes, logs } of messages)
    all.push(...vertexes.map(({ name }) => name), ...logs.map(({ msg }) => new TextDecoder().decode(msg)));
  return all;
}

const said = (status: StatusLog): Promise<string[]> => collect(status.follow());
const clipped = (why: string): string => `\n[output clipped: ${why}]\n`;

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

  it('tells all to each of its readers', async () => {
    const { status } = begun();
    const early = [said(status), said(status)];
    const vertex = status.vertex('step');
    vertex.output(false, 'a');
    // both have read by now
    await new Promise(setImmediate);
    const late = said(status);
    vertex.output(false, 'b');
    status.end();
    for (const reader of [...early, late, said(status)]) expect(await reader).toEqual(['step', 'a', 'b']);
  });

  it('drops output for the reader that does not read, and for those to come, who are told so', async () => {
    const { status } = begun();
    const idle = status.follow();
    const vertex = status.vertex('step');
    await idle.next();
    const reader = said(status);
    const mega = 'x'.repeat(1 << 20);
    for (let written = 0; written < 20; written++) {
      vertex.output(false, mega);
      await new Promise(setImmediate);
    }
    vertex.end();
    status.end();
    expect(await reader).toEqual(['step', ...Array(20).fill(mega), 'step']);
    expect(await collect(idle)).toEqual([...Array(16).fill(mega), clipped('its client does not read it'), 'step']);
    const kept = ['step', ...Array(4).fill(mega), clipped('the rest is too long to be kept'), 'step'];
    expect(await said(status)).toEqual(kept);
  });

  it('has a name of its own while it goes on', async () => {
    const solves = new Solves();
    await solves.run(begun(), async () => {
      await expect(solves.run(begun(), async () => undefined)).rejects.toThrow('a build named a is under way');
    });
    await solves.run(begun(), async () => undefined);
  });
});
