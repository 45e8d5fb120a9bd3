/** COPY and ADD by BuildKit: what is taken, under which name and mode, on ours and on dockerd (helpers/subject.ts). */
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BASE, Buildx } from '../helpers/buildx.ts';
import { missing } from '../helpers/requires.ts';
import { FOREIGN } from '../helpers/subject.ts';

const TREE = {
  'in/a.txt': 'a',
  'in/b.log': 'b',
  'in/deep/c.log': 'c',
  'in/deep/d.txt': 'd',
  'in/logs/e.log': 'e',
};

const ROWS: Record<string, { copy: string; lists: string[]; files?: Record<string, string>; ours?: true }> = {
  'what is excluded': {
    copy: 'COPY --exclude=*.log in /x',
    lists: ['a.txt', 'deep', 'deep/c.log', 'deep/d.txt', 'logs', 'logs/e.log'],
  },
  'what is excluded anywhere': {
    copy: 'COPY --exclude=**/*.log in /x',
    lists: ['a.txt', 'deep', 'deep/d.txt', 'logs'],
  },
  'what is excluded, but for some': {
    copy: 'COPY --exclude=deep --exclude=!deep/d.txt in /x',
    lists: ['a.txt', 'b.log', 'deep', 'deep/d.txt', 'logs', 'logs/e.log'],
  },
  'from another stage': {
    copy: 'COPY --from=files --exclude=logs --exclude=**/*.txt /in /x',
    lists: ['b.log', 'deep', 'deep/c.log'],
  },
  'directories above': {
    copy: 'COPY --parents in/deep/*.txt in/a.txt /x/',
    lists: ['in', 'in/a.txt', 'in/deep', 'in/deep/d.txt'],
    ours: true,
  },
  'directories above, from a point on': {
    copy: 'COPY --parents in/./deep /x/',
    lists: ['deep', 'deep/c.log', 'deep/d.txt'],
    ours: true,
  },
  'directories above, wherever it is': {
    copy: 'COPY --from=files --parents /in/./**/*.log /x/',
    lists: ['b.log', 'deep', 'deep/c.log', 'logs', 'logs/e.log'],
    ours: true,
  },
  'names beyond ASCII': {
    copy: 'COPY *.md /x/',
    lists: ['mit-%C3%BC+.md', 'ünï-中.md'],
    files: { 'ünï-中.md': '1', 'mit-%C3%BC+.md': '2' },
  },
};

describe.skipIf(missing('root', 'build', 'docker', 'buildx', 'compose'))('COPY and ADD', () => {
  let buildx: Buildx;

  beforeAll(async () => {
    buildx = await Buildx.open();
  });

  afterAll(async () => {
    expect(await buildx.close()).toEqual([]);
  });

  /** The image's name. */
  async function built(dockerfile: string, files: Record<string, string>): Promise<string> {
    const dir = buildx.context({ Dockerfile: dockerfile, ...files });
    const { code, stderr } = await buildx.build(dir, '-t', 'copy.test/built');
    expect(stderr).not.toMatch(/ERROR/);
    expect(code).toBe(0);
    return 'copy.test/built';
  }

  const print = async (image: string, script: string): Promise<string> =>
    (await buildx.subject.ok('run', '--rm', image, '/bin/sh', '-c', script)).trim();

  it.each(Object.entries(ROWS).filter(([, { ours }]) => !(FOREIGN && ours)))(
    '%s',
    async (_what, { copy, lists, files = TREE }) => {
      const image = await built(`FROM ${BASE} AS files\nCOPY . /\nFROM ${BASE}\n${copy}`, files);
      expect((await print(image, 'cd /x && find . | sed 1d | cut -c3- | sort')).split('\n')).toEqual(lists);
    },
  );

  it('changes modes as chmod does', async () => {
    const dockerfile = `FROM ${BASE}
COPY --chmod=u=rwX,go=rX dir /octal
COPY --chmod=g+w dir /more
COPY --chmod=4711 dir/plain /`;
    const image = await built(dockerfile, { 'dir/plain': '', 'dir/sub/run': '' });
    const modes = await print(image, 'stat -c "%n %a" /octal/plain /octal/sub /octal/sub/run /more/plain /plain');
    expect(modes.split('\n')).toEqual([
      '/octal/plain 644',
      '/octal/sub 755',
      '/octal/sub/run 755',
      '/more/plain 664',
      '/plain 4711',
    ]);
  });

  it('is another step when a file is called otherwise', async () => {
    const dockerfile = `FROM ${BASE}\nCOPY name* /x/`;
    await built(dockerfile, { 'name-1': 'the same' });
    expect(await print(await built(dockerfile, { 'name-2': 'the same' }), 'ls /x')).toBe('name-2');
  });

  // dockerd, in a network of its own, would not reach the server
  describe.skipIf(FOREIGN)('of a URL', () => {
    const asked: string[] = [];
    let archive = Buffer.alloc(0);
    const server = createServer((request, response) => {
      const etag = `"${archive.length}"`;
      const isSame = request.headers['if-none-match'] === etag;
      asked.push(`${request.method} ${isSame ? 304 : 200}`);
      response.writeHead(isSame ? 304 : 200, { etag }).end(isSame ? undefined : archive);
    });
    let url = '';

    beforeAll(async () => {
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/t.tar`;
      const script = 'mkdir /t; echo in > /t/inside; tar -cC /t . | base64';
      archive = Buffer.from(await buildx.subject.ok('run', '--rm', BASE, '/bin/sh', '-c', script), 'base64');
    });

    afterAll(() => server.close());

    it('unpacks what it is told to', async () => {
      const dockerfile = `FROM ${BASE}\nADD ${url} /kept/\nADD --unpack=true ${url} /unpacked/`;
      expect(await print(await built(dockerfile, {}), 'ls /kept /unpacked')).toBe(
        '/kept:\nt.tar\n\n/unpacked:\ninside',
      );
    });

    it('fetches again what has changed, and nothing else', async () => {
      const dockerfile = `FROM ${BASE}\nADD ${url} /`;
      await built(dockerfile, {});
      asked.length = 0;
      await built(dockerfile, {});
      expect(asked).toEqual(['HEAD 304']);
      archive = Buffer.concat([archive, Buffer.from('more')]);
      expect(await print(await built(dockerfile, {}), 'tail -c 4 /t.tar')).toBe('more');
      expect(asked.slice(1)).toEqual(['HEAD 200', 'GET 200']);
    });

    it('asks nobody for what a checksum says', async () => {
      const digest = createHash('sha256').update(archive).digest('hex');
      const dockerfile = `FROM ${BASE}\nADD --checksum=sha256:${digest} ${url} /checked`;
      await built(dockerfile, {});
      asked.length = 0;
      await built(dockerfile, {});
      expect(asked).toEqual([]);
      const wrong = buildx.context({ Dockerfile: dockerfile.replace(digest, '0'.repeat(64)) });
      expect((await buildx.build(wrong)).stderr).toMatch(/digest mismatch sha256:/);
    });
  });
});
