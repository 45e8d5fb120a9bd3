/** What the filters of `image prune` take away: the table is what dockerd 28.5.2 answers. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { buildImage, busyboxTar, ociArchive } from '../helpers/image.ts';
import { missing } from '../helpers/requires.ts';

interface Image {
  Id: string;
  RepoTags: string[];
  Labels: Record<string, string> | null;
}

describe.skipIf(missing('root', 'build', 'docker', 'busybox'))('image prune', () => {
  let daemon: TestDaemon;
  const archives: Buffer[] = [];

  beforeAll(async () => {
    const layer = await busyboxTar();
    const add = async (name: string, created: string, labels: Record<string, string> = {}): Promise<void> => {
      const config = { Labels: labels, Cmd: [name, created] };
      archives.push(await ociArchive(buildImage([layer], config, created), `${name}:1`));
    };
    // Two lose their name to the next one.
    await add('plain', '2020-01-01T00:00:00Z', { x: '1' });
    await add('plain', '2024-01-01T00:00:00Z');
    await add('plain', '2022-01-01T00:00:00Z');
    await add('old', '2020-01-01T00:00:00Z', { x: '1' });
    await add('new', '2024-01-01T00:00:00.5Z', { x: '2', y: '' });
    await add('used', '2020-01-01T00:00:00Z', { x: '1' });
    daemon = await new TestDaemon().start();
  });
  beforeEach(async () => {
    for (const archive of archives) expect((await daemon.http('POST', '/images/load', archive)).status).toBe(200);
    await daemon.http('POST', '/containers/create?name=user', { Image: 'used:1' });
  });
  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
  });

  const prune = (filters: object) =>
    daemon.http('POST', `/images/prune?filters=${encodeURIComponent(JSON.stringify(filters))}`);
  /** Tags; of an image without one whether it has labels. */
  const left = async (): Promise<string> =>
    (JSON.parse((await daemon.http('GET', '/images/json')).body) as Image[])
      .map(({ RepoTags: [tag], Labels }) => tag?.slice(0, -2) ?? (Object.keys(Labels ?? {}).length > 0 ? '(x)' : '()'))
      .sort()
      .join(' ');

  const all = { dangling: ['false'] };
  it.each<[filters: object, left: string]>([
    [{}, 'new old plain used'],
    [{ dangling: ['true'] }, 'new old plain used'],
    [all, 'used'],
    [{ ...all, label: ['x'] }, '() plain used'],
    [{ ...all, label: ['x=1'] }, '() new plain used'],
    [{ ...all, label: ['x=1', 'y'] }, '() (x) new old plain used'],
    [{ ...all, 'label!': ['x'] }, '(x) new old used'],
    [{ ...all, 'label!': ['x=1'] }, '(x) old used'],
    [{ ...all, 'label!': ['x=1', 'y'] }, 'used'],
    [{ label: ['x'] }, '() new old plain used'],
    [{ 'label!': ['x'] }, '(x) new old plain used'],
    [{ until: ['2021-01-01T00:00:00Z'] }, '() new old plain used'],
    [{ ...all, until: ['2022-01-01T00:00:00Z'] }, '() new used'],
    [{ ...all, until: ['2023-01-01'] }, '() new used'],
    [{ ...all, until: ['2023-01-01T00:00'] }, '() new used'],
    [{ ...all, until: ['1704067200.6'] }, 'used'],
    [{ ...all, until: ['1704067200.4'] }, 'new used'],
    [{ ...all, until: ['24h'] }, 'used'],
    [{ ...all, until: ['1h30m'] }, 'used'],
    [{ ...all, until: ['-1h'] }, 'used'],
    [{ ...all, until: ['200000h'] }, '() (x) new old plain used'],
  ])('with %j', async (filters, expected) => {
    expect((await prune(filters)).status).toBe(200);
    expect(await left()).toBe(expected);
  });

  it.each<[filters: object, message: string]>([
    [{ dangling: ['maybe'] }, "invalid filter 'dangling="],
    [{ dangling: ['true', 'false'] }, "invalid filter 'dangling="],
    [{ until: ['2021-01-01', '2025-01-01'] }, 'more than one until filter specified'],
    [{ until: ['soon'] }, 'soon'],
    [{ until: [''] }, 'until'],
    [{ nope: ['1'] }, "invalid filter 'nope'"],
    [{ reference: ['old'] }, "invalid filter 'reference'"],
  ])('refuses %j, and takes nothing', async (filters, message) => {
    const refused = await prune(filters);
    expect([refused.status, refused.body]).toEqual([400, expect.stringContaining(message)]);
    expect(await left()).toBe('() (x) new old plain used');
  });

  it('leaves one name to an image in use, the last of all', async () => {
    for (const name of ['z', 'a', 'used/b'])
      expect((await daemon.http('POST', `/images/used:1/tag?repo=${name}&tag=1`)).status).toBe(201);
    const pruned = JSON.parse((await prune(all)).body) as { ImagesDeleted: { Untagged?: string }[] };
    const names = pruned.ImagesDeleted.flatMap(({ Untagged = '' }) => (/^(a|used|z)/.test(Untagged) ? [Untagged] : []));
    expect(names).toEqual(['a:1', 'used:1', 'z:1']);
    expect(await left()).toBe('used/b');
    expect((await prune(all)).body).toContain('"ImagesDeleted":null');
    expect((await daemon.http('DELETE', '/images/used/b:1?force=true')).status).toBe(200);
  });
});
