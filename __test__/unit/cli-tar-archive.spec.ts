/** What `build` and `cp` pack, where the filesystem answers out of turn. */
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { Parser } from 'tar';
import { afterEach, expect, it, vi } from 'vitest';
import { tarArchive } from '../../ts/cli/tarArchive.ts';

const dir = fs.mkdtempSync(join(tmpdir(), 'caisson-tar-'));

afterEach(() => {
  vi.restoreAllMocks();
  fs.rmSync(dir, { recursive: true });
});

it('names of one file: the first is the file and the others are links to it, whichever is known last', async () => {
  fs.writeFileSync(join(dir, 'file'), 'x'.repeat(100_000));
  for (let i = 0; i < 20; i++) fs.linkSync(join(dir, 'file'), join(dir, `link${i}`));
  const [first, second] = fs.readdirSync(dir);
  // the first is slow, so that others wait for it; the second is slower than all that it takes to write the first
  const lstat = fs.lstat as (path: string, done: (error: Error | null, stat: fs.Stats) => void) => void;
  vi.spyOn(fs, 'lstat').mockImplementation(((path: string, done: Parameters<typeof lstat>[1]) =>
    lstat(path, (error, stat) => {
      const name = basename(path);
      setTimeout(() => done(error, stat), name === first ? 50 : name === second ? 300 : 0);
    })) as typeof fs.lstat);

  const types: string[] = [];
  const parser = new Parser({
    onReadEntry: (entry) => {
      types.push(entry.type);
      entry.resume();
    },
  });
  for await (const chunk of tarArchive({ cwd: dir }, ['.'])) parser.write(chunk);
  parser.end();
  expect(types).toEqual(['Directory', 'File', ...Array(20).fill('Link')]);
});
