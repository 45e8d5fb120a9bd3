/** `docker build` by BuildKit's protocol: what Dockerfiles and flags do, on ours and on dockerd (helpers/subject.ts). */
import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  linkSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { BASE, Buildx } from '../helpers/buildx.ts';
import { missing } from '../helpers/requires.ts';
import { FOREIGN } from '../helpers/subject.ts';

const WAIT = { timeout: 30_000, interval: 50 };

interface Row {
  dockerfile: string;
  files?: Record<string, string>;
  flags?: string[];
  input?: string;
  /** What the image's `sh -c` prints of this. */
  prints?: [script: string, output: string];
  /** In place of that: what the client says. */
  fails?: RegExp;
  says?: RegExp;
  /** Something that dockerd does, or does otherwise. */
  unsupported?: true;
}

const ROWS: Record<string, Row> = {
  'secrets of the client, which leave nothing behind': {
    dockerfile: `FROM ${BASE}
RUN --mount=type=secret,id=one cat /run/secrets/one > /said && stat -c %a /run/secrets/one >> /said
RUN --mount=type=secret,id=one,target=/deep/down,mode=0444,uid=7 stat -c '%a %u' /deep/down >> /said
RUN --mount=type=secret,id=one,env=TOLD echo "$TOLD" >> /said
RUN --mount=type=secret,id=two test ! -e /run/secrets/two`,
    files: { one: 'first' },
    flags: ['--secret', 'id=one,src=one'],
    prints: ['cat /said; ls -d /run/secrets /deep 2>/dev/null; true', 'first400\n444 7\nfirst'],
  },
  'a secret that must be there': {
    dockerfile: `FROM ${BASE}\nRUN --mount=type=secret,id=none,required true`,
    fails: /secret none: not found/,
  },
  'a namespace of cache mounts': {
    dockerfile: `FROM ${BASE}\nRUN --mount=type=cache,id=meet,target=/m ls -A /m > /said`,
    flags: ['--build-arg', 'BUILDKIT_CACHE_MOUNT_NS=mine'],
    prints: ['cat /said', ''],
  },
  'contexts by name': {
    dockerfile: `FROM base
COPY --from=dir sub/f /f
COPY --from=replaced /etc/group /g`,
    files: { 'more/sub/f': 'by name', 'more/.dockerignore': 'hidden', 'more/hidden': '' },
    flags: [
      '--build-context',
      `base=docker-image://${BASE}`,
      '--build-context',
      'dir=more',
      '--build-context',
      `replaced=docker-image://${BASE}`,
    ],
    prints: ['cat /f /g | head -1', 'by nameroot:x:0:'],
  },
  'a directory as the base': {
    dockerfile: `FROM ${BASE} AS tools
FROM root
COPY --from=tools /bin/busybox /bin/sh`,
    files: { 'root/etc/f': 'base' },
    flags: ['--build-context', 'root=root'],
    prints: ['read x < /etc/f; echo $x', 'base'],
  },
  'stages that nothing needs': {
    dockerfile: `FROM ${BASE} AS never
RUN false
FROM ${BASE} AS made
RUN echo made > /said
FROM never`,
    flags: ['--target', 'made'],
    prints: ['cat /said', 'made'],
  },
  'stages at once': {
    dockerfile: `FROM ${BASE} AS a
RUN --mount=type=cache,id=meet,target=/m touch /m/a; i=0; until [ -e /m/b ]; do i=$((i+1)); [ $i -lt 200 ] || exit 1; sleep 0.1; done; echo a > /said
FROM ${BASE} AS b
RUN --mount=type=cache,id=meet,target=/m touch /m/b; i=0; until [ -e /m/a ]; do i=$((i+1)); [ $i -lt 200 ] || exit 1; sleep 0.1; done; echo b > /said
FROM ${BASE}
COPY --from=a /said /a
COPY --from=b /said /b`,
    prints: ['cat /a /b', 'a\nb'],
  },
  'files that .dockerignore leaves out': {
    dockerfile: `FROM ${BASE}\nCOPY . /all/`,
    files: {
      '.dockerignore': '# no\n/out\n*.log\n!keep.log\n',
      'out/f': '',
      'a.log': '',
      'keep.log': '',
      'in/b.log': '',
      'in/c': '',
    },
    prints: ['cd /all; find . -type f | sort', './.dockerignore\n./Dockerfile\n./in/b.log\n./in/c\n./keep.log'],
  },
  'a .dockerignore of its own': {
    dockerfile: `FROM ${BASE}\nCOPY . /all/`,
    files: { '.dockerignore': 'f', 'Dockerfile.dockerignore': 'g\nDockerfile*', f: '', g: '' },
    prints: ['cd /all; find . -type f | sort', './.dockerignore\n./f'],
  },
  'links, modes and names of the context': {
    dockerfile: `FROM ${BASE}\nCOPY dir link* /x/`,
    files: { 'dir/run': 'x', [`dir/${'long'.repeat(40)}/${'name'.repeat(40)}`]: 'y', 'dir/mit Leerzeichen ü': 'z' },
    prints: ['cd /x; stat -c "%a %u:%g" run; find . -type f | wc -l; readlink to; cat link', '755 0:0\n4\nrun\nx'],
  },
  'mounts that can be written to, for one command': {
    dockerfile: `FROM ${BASE} AS other
RUN echo other > /o
FROM ${BASE}
RUN --mount=target=/ctx,rw --mount=type=bind,from=other,target=/other,rw cd /ctx && echo new > g && echo more >> f && rm d/h && echo x >> /other/o && cat f g /other/o > /said && ls d >> /said
RUN --mount=target=/ctx --mount=from=other,target=/other --mount=source=f,target=/one,rw echo own > /one; ls /ctx >> /said; cat /ctx/f /ctx/d/h /other/o /one >> /said
RUN --mount=type=cache,target=/c,sharing=private echo kept > /c/f`,
    files: { f: 'f\n', 'd/h': 'h\n' },
    prints: ['cat /said; ls -d /ctx /c 2>&-; true', 'f\nmore\nnew\nother\nx\nDockerfile\nd\nf\nf\nh\nother\nown'],
  },
  'hosts, limits and sizes': {
    dockerfile: `FROM ${BASE}
RUN grep -c 'there.test' /etc/hosts > /said; grep there.test /etc/hosts | cut -c 1-7 >> /said; ulimit -n >> /said; df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2 >> /said`,
    flags: ['--add-host', 'there.test:7.7.7.7', '--ulimit', 'nofile=77:99', '--shm-size', '1m'],
    prints: ['cat /said', '1\n7.7.7.7\n77\n1024'],
  },
  'arguments, labels and a here-document': {
    dockerfile: `ARG BASE=none
FROM $BASE
ARG A
RUN <<EOF
echo "$A $TARGETARCH" > /said
EOF
ARG TARGETARCH
RUN echo $TARGETARCH | grep -q . && echo more >> /said`,
    flags: ['--build-arg', `BASE=${BASE}`, '--build-arg', 'A=given', '--label', 'l=1'],
    prints: ['cat /said', 'given \nmore'],
  },
  'a Dockerfile from stdin': {
    dockerfile: '',
    files: { f: 'context' },
    flags: ['-f', '-'],
    input: `FROM ${BASE}\nCOPY f /f`,
    prints: ['cat /f', 'context'],
  },
  'a command that fails': {
    dockerfile: `FROM ${BASE}\nRUN true\nRUN echo out; exit 3`,
    fails:
      /Dockerfile:3[\s\S]*>>> RUN echo out; exit 3[\s\S]*process "\/bin\/sh -c echo out; exit 3" did not complete successfully: exit code: 3/,
  },
  'a stage that fails beside another': {
    dockerfile: `FROM ${BASE} AS wrong
RUN --mount=type=cache,id=fails,target=/m i=0; until [ -e /m/begun ]; do i=$((i+1)); [ $i -lt 200 ] || exit 1; sleep 0.1; done; exit 9
FROM ${BASE} AS long
RUN --mount=type=cache,id=fails,target=/m touch /m/begun; sleep 6666
FROM ${BASE}
COPY --from=long / /
COPY --from=wrong / /`,
    fails: /\[long 2\/2\][^\n]*\n(#\d+ CANCELED|[\s\S]*CANCELED)[\s\S]*did not complete successfully: exit code: 9/,
  },
  'an instruction that nobody knows': {
    dockerfile: `FROM ${BASE}\n\nNONSENSE x`,
    fails: /Dockerfile:3[\s\S]*unknown instruction: NONSENSE/,
  },
  'a stage that is not there': {
    dockerfile: `FROM ${BASE}`,
    flags: ['--target', 'none'],
    fails: /target stage "none" could not be found/,
  },
  'the network of the host without leave': {
    dockerfile: `FROM ${BASE}\nRUN --network=host true`,
    fails: /network\.host is not allowed/,
  },
  'the network of the host': {
    dockerfile: `FROM ${BASE}\nRUN --network=host ls /sys/class/net > /said`,
    flags: ['--allow', 'network.host'],
    prints: ['test -s /said; echo $?', '0'],
  },
  'here-documents that name their interpreter': {
    dockerfile: `FROM ${BASE}
RUN <<EOF
#!/bin/busybox sh
echo "$0" > /said; type exit | head -1 >> /said
EOF
RUN ls /dev/pipes 2>/dev/null || echo gone >> /said`,
    prints: ['cat /said', '/dev/pipes/EOF\nexit is a special shell builtin\ngone'],
  },
  // dockerd would pull it
  'the language by its image': {
    dockerfile: `# syntax=docker/dockerfile:1\nFROM ${BASE}\nRUN echo own > /said`,
    prints: ['cat /said', 'own'],
    unsupported: true,
  },
  'a language that is not Docker’s': {
    dockerfile: `# syntax=buildkit.test/other:1\nFROM ${BASE}`,
    fails: /only Docker's own Dockerfile syntax is supported by caisson/,
    unsupported: true,
  },
  'an archive of an image': {
    dockerfile: `FROM ${BASE}`,
    flags: ['-o', 'type=oci,dest=x.tar'],
    fails: /OCI exporter is not supported for the docker driver/,
  },
};
describe.skipIf(missing('root', 'build', 'docker', 'buildx', 'compose'))('docker buildx', () => {
  let buildx: Buildx;

  beforeAll(async () => {
    buildx = await Buildx.open();
  });

  afterAll(async () => {
    expect(await buildx.close()).toEqual([]);
  });

  it.each(Object.entries(ROWS).filter(([, { unsupported }]) => !(FOREIGN && unsupported)))('%s', async (_name, row) => {
    const dir = buildx.context({ ...row.files, ...(row.dockerfile !== '' && { Dockerfile: row.dockerfile }) });
    if (_name.startsWith('links')) {
      symlinkSync('run', join(dir, 'dir/to'));
      symlinkSync('dir/run', join(dir, 'link'));
    }
    const args = ['build', '--progress=plain', '-t', 'buildkit.test/made', ...(row.flags ?? []), '.'];
    const { code, stderr } = await buildx.docker(dir, args, row.input);
    if (row.fails !== undefined) {
      expect(stderr).toMatch(row.fails);
      expect(code).toBe(1);
      return;
    }
    expect(stderr).toMatch(row.says ?? /naming to (docker\.io\/)?buildkit\.test\/made/);
    expect(code).toBe(0);
    const [script = 'true', output = ''] = row.prints ?? [];
    expect(
      await buildx.subject.ok('run', '--rm', '--network', 'none', 'buildkit.test/made', '/bin/sh', '-c', script),
    ).toBe(output);
  });

  it('takes what is known from before, unless told otherwise', async () => {
    const dockerfile = `FROM ${BASE} AS one
RUN echo $(cat /proc/sys/kernel/random/uuid) > /one
FROM ${BASE} AS two
RUN echo $(cat /proc/sys/kernel/random/uuid) > /two
FROM ${BASE}
COPY --from=one /one /
COPY --from=two /two /`;
    const dir = buildx.context({ Dockerfile: dockerfile });
    const made = async (...flags: string[]): Promise<string[]> => {
      expect((await buildx.build(dir, '-t', 'buildkit.test/cached', ...flags)).code).toBe(0);
      return (await buildx.subject.ok('run', '--rm', 'buildkit.test/cached', 'cat', '/one', '/two')).split('\n');
    };
    const first = await made();
    expect(await made()).toEqual(first);
    const [one, two] = await made('--no-cache-filter', 'two');
    expect(one).toBe(first[0]);
    expect(two).not.toBe(first[1]);
    const again = await made('--no-cache');
    expect(again[0]).not.toBe(first[0]);
  });

  it('asks for no more than is copied', async () => {
    const dir = buildx.context({
      Dockerfile: `FROM ${BASE}\nCOPY small /small`,
      small: 'x',
      big: 'x'.repeat(3_000_000),
    });
    const { stderr } = await buildx.build(dir);
    const [, size = ''] = /load build context[\s\S]*?transferring context: (\S+) .*done/.exec(stderr) ?? [];
    expect(size).toMatch(/^\d+B$/);
  });

  it('makes the same image again, of the date that it is told', async () => {
    const dockerfile = `FROM ${BASE}\nWORKDIR /made\nCOPY <<EOF /made/here\ntext\nEOF\nCOPY f /f\nLABEL a=b`;
    const idOf = async (): Promise<string> => {
      const dir = buildx.context({ Dockerfile: dockerfile, f: 'the same' });
      utimesSync(join(dir, 'f'), 1, 1);
      const flags = ['--no-cache', '--build-arg', 'SOURCE_DATE_EPOCH=1234567890', '-t', 'buildkit.test/dated'];
      expect((await buildx.build(dir, ...flags)).code).toBe(0);
      return buildx.subject.ok('inspect', '-f', '{{.Id}} {{.Created}}', 'buildkit.test/dated');
    };
    const first = await idOf();
    expect(first).toMatch(/ 2009-02-13T23:31:30(\.000)?Z$/);
    // dockerd's directories have the time of the build
    if (!FOREIGN) expect(await idOf()).toBe(first);
  });

  it('asks again only for what has changed', async () => {
    const big = 'x'.repeat(3_000_000);
    const files = { stays: big, edited: 'old', gone: '', 'dir/f': 'f', file: 'a file', 'other/mode': 'm', to: 't' };
    const dir = buildx.context({ Dockerfile: `FROM ${BASE}\nCOPY . /all`, '.dockerignore': 'Dockerfile', ...files });
    linkSync(join(dir, 'edited'), join(dir, 'same'));
    symlinkSync('stays', join(dir, 'link'));
    const listed = (image: string): Promise<string> => {
      const all = 'find . | sort | while read n; do stat -c "%n %F %a" $n; done';
      const script = `cd /all; ${all}; md5sum stays edited same; readlink link`;
      return buildx.subject.ok('run', '--rm', image, '/bin/sh', '-c', script);
    };
    const made = async (): Promise<{ size: string; listing: string }> => {
      const { stderr } = await buildx.build(dir, '-t', 'buildkit.test/changed');
      const [, size = ''] = /load build context[\s\S]*?transferring context: (\S+) .*done/.exec(stderr) ?? [];
      return { size, listing: await listed('buildkit.test/changed') };
    };
    const first = await made();
    expect(first.size).toMatch(/^3\.0\dMB$/);
    writeFileSync(join(dir, 'edited'), 'newer');
    rmSync(join(dir, 'gone'));
    rmSync(join(dir, 'dir'), { recursive: true });
    writeFileSync(join(dir, 'dir'), 'now a file');
    rmSync(join(dir, 'file'));
    mkdirSync(join(dir, 'file/below'), { recursive: true });
    chmodSync(join(dir, 'other/mode'), 0o700);
    rmSync(join(dir, 'link'));
    symlinkSync('to', join(dir, 'link'));
    const second = await made();
    expect(second.size).toMatch(/^\d{3}B$/);
    const anew = buildx.context({ Dockerfile: `FROM ${BASE}\nCOPY all /all` });
    cpSync(dir, join(anew, 'all'), {
      recursive: true,
      verbatimSymlinks: true,
      filter: (path) => !path.endsWith('Dockerfile'),
    });
    await buildx.build(anew, '-t', 'buildkit.test/changed-anew');
    expect(second.listing).toBe(await listed('buildkit.test/changed-anew'));
    expect(second.listing).not.toBe(first.listing);
    expect((await buildx.build(dir)).stderr).toMatch(/COPY \. \/all\n#\d+ CACHED/);
  });

  it('takes a context from stdin, and names the image in files', async () => {
    const dir = buildx.context({ Dockerfile: `FROM ${BASE}\nCOPY f /f`, f: 'archive' });
    const archive = execFileSync('tar', ['-c', '.'], { cwd: dir });
    const since = String(Date.now() / 1000);
    const args = ['build', '--iidfile', 'iid', '--metadata-file', 'meta', '-t', 'buildkit.test/stdin', '-'];
    expect((await buildx.docker(dir, args, archive)).code).toBe(0);
    const id = await buildx.subject.ok('image', 'inspect', '--format', '{{.Id}}', 'buildkit.test/stdin');
    const until = String(Date.now() / 1000);
    const events = ['events', '--since', since, '--until', until, '--filter', `image=${id}`, '--format', '{{.Action}}'];
    expect((await buildx.subject.ok(...events)).split('\n').sort()).toEqual(['create', 'tag']);
    expect(readFileSync(join(dir, 'iid'), 'utf8')).toBe(id);
    expect(JSON.parse(readFileSync(join(dir, 'meta'), 'utf8'))).toMatchObject({ 'containerimage.config.digest': id });
    expect(await buildx.subject.ok('run', '--rm', 'buildkit.test/stdin', 'cat', '/f')).toBe('archive');
  });

  it('shows and prunes what cache mounts keep', async () => {
    const dir = buildx.context({
      Dockerfile: `FROM ${BASE}\nRUN --mount=type=cache,target=/kept echo 12345 > /kept/f`,
    });
    expect((await buildx.build(dir)).code).toBe(0);
    const du = async (): Promise<string> => (await buildx.docker(dir, ['buildx', 'du', '--verbose'])).stdout;
    expect(await du()).toMatch(/Description:\s+cached mount[\s\S]*Type:\s+exec\.cachemount|Type:\s+exec\.cachemount/);
    // neither is so old
    expect((await buildx.docker(dir, ['builder', 'prune', '-af', '--filter', 'until=24h'])).code).toBe(0);
    expect(await du()).toMatch(/exec\.cachemount/);
    expect((await buildx.docker(dir, ['builder', 'prune', '-af'])).stdout).toMatch(/Total:/);
    expect(await du()).not.toMatch(/exec\.cachemount/);
  });

  it('gives a locked cache back when a step cannot begin', async () => {
    const step = (more: string): string =>
      buildx.context({ Dockerfile: `FROM ${BASE}\nRUN --mount=type=cache,target=/c,sharing=locked ${more}` });
    expect((await buildx.build(step('--mount=type=secret,id=none,required true'))).code).toBe(1);
    expect((await buildx.build(step('touch /c/f'))).code).toBe(0);
  });

  it('ends with its client', async () => {
    const dir = buildx.context({ Dockerfile: `FROM ${BASE}\nRUN sleep 7777` });
    const client = spawn('docker', ['build', '.'], { env: buildx.env, cwd: dir, stdio: 'ignore' });
    const sleeps = (): string => execFileSync('sh', ['-c', 'pgrep -fx "sleep 7777" || true'], { encoding: 'utf8' });
    await vi.waitFor(() => expect(sleeps()).not.toBe(''), WAIT);
    client.kill('SIGINT');
    await vi.waitFor(() => expect(sleeps()).toBe(''), WAIT);
  });

  it.skipIf(FOREIGN).each(['SIGKILL', 'SIGTERM'] as const)(
    'that the end of a daemon (%s) broke off leaves its steps',
    async (how) => {
      const { daemon } = buildx.subject;
      if (daemon === undefined) return;
      const step = `FROM ${BASE}\nRUN echo ${how} > /kept`;
      const under = buildx.build(
        buildx.context({ Dockerfile: `${step}\nRUN --mount=type=secret,id=s sleep 8888`, s: 's' }),
        '--secret',
        'id=s,src=s',
      );
      const commands = (): Promise<string> => buildx.subject.ok('ps', '-a', '--no-trunc', '--format', '{{.Command}}');
      await vi.waitFor(async () => expect(await commands()).toContain('sleep 8888'), WAIT);
      await daemon.kill(how);
      expect((await under).code).not.toBe(0);
      await daemon.start();
      expect(await commands()).toBe('');
      expect((await buildx.build(buildx.context({ Dockerfile: step }))).stderr).toMatch(
        /RUN echo \w+ > \/kept\n#\d+ CACHED/,
      );
    },
  );
});
