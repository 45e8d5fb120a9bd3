/** `docker build` with Docker's classic builder, on ours and (where a row is not marked) on dockerd (helpers/subject.ts). */
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type CommandResult, run } from '../helpers/daemon.ts';
import { busyboxTar } from '../helpers/image.ts';
import { missing } from '../helpers/requires.ts';
import { FOREIGN, Subject } from '../helpers/subject.ts';

const WAIT = { timeout: 30_000, interval: 50 };
const BASE = 'build.test/busybox:1';

interface Row {
  dockerfile: string;
  files?: Record<string, string | Buffer>;
  flags?: string[];
  /** What the last image's `sh -c` prints of this. */
  prints?: [script: string, output: string];
  /** In place of that: what the build says, and its exit code. */
  fails?: [code: number, message: string];
  says?: string | RegExp;
  /** BuildKit's, which the classic builder of dockerd does not have. */
  beyond?: true;
}

const tarOf = (files: Record<string, string>): Buffer => {
  const dir = mkdtempSync('/tmp/caisson-build-');
  for (const [name, content] of Object.entries(files)) writeFileSync(join(dir, name), content);
  const archive = execFileSync('tar', ['-C', dir, '-c', ...Object.keys(files)]);
  execFileSync('rm', ['-r', dir]);
  return archive;
};

const ROWS: Record<string, Row> = {
  'commands and their variables': {
    dockerfile: `ARG TAG=1
FROM build.test/busybox:$TAG
ARG V=default
ARG W
ENV A=one B="two words" C=\${V:-none}
ENV D=\${A:+\${B}} E=$C-$W
RUN echo "$A|$B|$D|$E" > /said`,
    flags: ['--build-arg', 'V=given', '--build-arg', 'W=w', '--build-arg', 'X=never'],
    prints: ['cat /said', 'one|two words|two words|given-w'],
    says: '[Warning] One or more build-args [X] were not consumed',
  },
  'files, directories, patterns and links of the context': {
    dockerfile: `FROM ${BASE}
WORKDIR /srv/app
COPY link ./
COPY *.txt [c]dir /all/
COPY dir /dir
COPY dir/sub/deep .
COPY --chown=user:extra dir /owned/`,
    files: { 'a.txt': 'a', 'b.txt': 'b', 'cdir/c': 'c', 'dir/sub/deep': 'deep' },
    prints: [
      'cat link deep; cd /all; echo *; stat -c "%U:%G %a" /owned /owned/sub/deep /dir/sub/deep; pwd',
      'adeepa.txt b.txt c\nuser:extra 755\nuser:extra 644\nroot:root 644\n/all',
    ],
  },
  'an image as the source, by name, number and reference': {
    dockerfile: `FROM ${BASE} AS First
RUN mkdir -p /out/d && echo x > /out/d/x && chown user /out/d/x && ln -s d /out/link
FROM scratch AS second
COPY --from=first /out/link/x /y
FROM ${BASE}
COPY --from=FIRST /out /out
COPY --from=1 /y /
COPY --from=${BASE} /etc/group /z`,
    prints: [
      'cat /out/d/x /y; stat -c %U /out/d/x /y; readlink /out/link; head -1 /z',
      'x\nx\nuser\nuser\nd\nroot:x:0:',
    ],
  },
  'a target, and labels of the command line': {
    dockerfile: `FROM ${BASE} AS one
RUN echo one > /one
FROM one AS two
RUN false`,
    flags: ['--target', 'ONE', '--label', 'from=outside $A'],
    prints: ['cat /one', 'one'],
  },
  'archives that are added': {
    dockerfile: `FROM ${BASE}
ADD plain.tar /plain/
ADD packed.tgz /packed
ADD packed.txz packed.tbz2 /more/
ADD not.gz /file/
COPY plain.tar /copied/
RUN cat /plain/in /packed/in /more/xz /more/bz && ls /file /copied`,
    files: {
      'plain.tar': tarOf({ in: 'plain' }),
      'packed.tgz': gzipSync(tarOf({ in: 'packed' })),
      'packed.txz': execFileSync('xz', ['-c'], { input: tarOf({ xz: 'by xz' }) }),
      'packed.tbz2': execFileSync('bzip2', ['-c'], { input: tarOf({ bz: 'by bzip2' }) }),
      'not.gz': gzipSync('no archive at all'),
    },
    says: 'plainpackedby xzby bzip2/copied:\nplain.tar\n\n/file:\nnot.gz\n',
    prints: ['true', ''],
  },
  'triggers of the base': {
    dockerfile: `FROM ${BASE} AS base
ONBUILD COPY f /f
ONBUILD RUN echo triggered >> /f
FROM base
RUN cat /f`,
    files: { f: 'f' },
    says: /# Executing 2 build triggers\n[\s\S]*ftriggered\n/,
    prints: ['cat /f', 'ftriggered'],
  },
  'another shell, another user, another directory': {
    dockerfile: `FROM ${BASE}
SHELL ["/bin/sh", "-xc"]
WORKDIR home
WORKDIR sub
USER user
RUN whoami; pwd`,
    says: /user\n[\s\S]*\/home\/sub\n/,
    prints: ['whoami', 'user'],
  },
  'a command that fails': {
    dockerfile: `FROM ${BASE}\nRUN echo so far; exit 7`,
    says: 'so far\n',
    fails: [7, "The command '/bin/sh -c echo so far; exit 7' returned a non-zero code: 7"],
  },
  'a program that is not there': {
    dockerfile: `FROM ${BASE}\nRUN ["/nowhere"]`,
    fails: [1, 'exec: "/nowhere": stat /nowhere: no such file or directory'],
  },
  'a file that is not there': {
    dockerfile: `FROM ${BASE}\nCOPY what /`,
    fails: [
      1,
      'COPY failed: file not found in build context or excluded by .dockerignore: stat what: file does not exist',
    ],
  },
  'a file outside of the context': {
    dockerfile: `FROM ${BASE}\nCOPY out/passwd /`,
    fails: [1, 'COPY failed: '],
  },
  'an instruction that nobody knows': {
    dockerfile: `FROM ${BASE}\nWHAT is this`,
    fails: [1, 'dockerfile parse error on line 2: unknown instruction: WHAT'],
  },
  'an argument that is not set': {
    dockerfile: `FROM ${BASE}\nARG V\nENV W="\${V:?has to be given}"`,
    fails: [1, 'V: has to be given'],
  },
  'a stage that is not there': {
    dockerfile: `FROM ${BASE}\nCOPY --from=5 /a /`,
    fails: [1, 'invalid from flag value 5: index out of bounds'],
  },
  'no Dockerfile': { dockerfile: 'FROM scratch', flags: ['-f', 'Other'], fails: [1, 'Other'] },
  'limits and network of its commands': {
    dockerfile: `FROM ${BASE}
RUN ulimit -n; ls /sys/class/net; cat /etc/hosts | grep host.test`,
    flags: ['--network', 'none', '--ulimit', 'nofile=77', '--add-host', 'host.test:10.0.0.9'],
    says: /77\nlo\n10\.0\.0\.9\s+host\.test\n/,
    prints: ['true', ''],
  },
  'here-documents': {
    beyond: true,
    dockerfile: `FROM ${BASE}
ENV A=resolved
RUN <<EOF
echo "first $A" > /out
echo second >> /out
EOF
RUN cat <<X >> /out
third
X
COPY <<one <<"two" /d/
$A
one
$A
two`,
    prints: ['cat /out /d/one /d/two', 'first resolved\nsecond\nthird\nresolved\n$A'],
  },
  'mounts of one command': {
    beyond: true,
    dockerfile: `FROM ${BASE} AS other
RUN echo other > /o
FROM ${BASE}
RUN --mount=type=cache,target=/cache,mode=0700 echo kept >> /cache/f; stat -c %a /cache
RUN --mount=type=cache,target=/cache,sharing=locked --mount=target=/ctx --mount=from=other,source=/o,target=/o \\
    cat /cache/f /ctx/f /o > /out; touch /ctx/f || echo read-only >> /out
RUN --mount=type=tmpfs,target=/t mount | grep -c ' /t ' >> /out
COPY --chmod=0640 --link f /mode`,
    files: { f: 'f\n' },
    prints: ['cat /out; stat -c %a /mode', 'kept\nf\nother\nread-only\n1\n640'],
  },
  'the network of the host': {
    beyond: true,
    dockerfile: `FROM ${BASE}\nRUN --network=host true`,
    fails: [1, 'RUN --network=host: granting entitlement network.host is not allowed'],
  },
  'a mount that says neither yes nor no': {
    beyond: true,
    dockerfile: `FROM ${BASE}\nRUN --mount=type=cache,target=/c,ro=maybe true`,
    fails: [1, 'invalid value for ro: maybe'],
  },
  'what only BuildKit can do': {
    beyond: true,
    dockerfile: `FROM ${BASE}\nRUN --mount=type=secret,id=x true`,
    fails: [1, '--mount=type=secret needs a client that speaks BuildKit'],
  },
};

describe.skipIf(missing('root', 'build', 'docker', 'busybox'))('docker build', () => {
  let subject: Subject;
  let server: Server;
  let count = 0;

  /** The directory of a context. */
  function context(files: Record<string, string | Buffer>): string {
    const dir = join(subject.dir, `context-${count++}`);
    mkdirSync(join(dir, 'out'), { recursive: true });
    execFileSync('ln', ['-s', '../../../../etc/passwd', join(dir, 'out/passwd')]);
    for (const [path, content] of Object.entries(files)) {
      mkdirSync(dirname(join(dir, path)), { recursive: true });
      writeFileSync(join(dir, path), content);
    }
    if (files['a.txt'] !== undefined) execFileSync('ln', ['-s', 'a.txt', join(dir, 'link')]);
    return dir;
  }

  const build = (dir: string, ...flags: string[]): Promise<CommandResult> =>
    run('docker', ['build', ...flags, dir], { env: { ...subject.env, DOCKER_BUILDKIT: '0' } });
  const ids = (stdout: string): string[] => [...stdout.matchAll(/^ ---> ([0-9a-f]{12})$/gm)].map(([, id]) => id ?? '');

  beforeAll(async () => {
    subject = await Subject.open();
    await subject.ok('import', subject.archive, BASE);
    server = createServer((request, response) => {
      response.setHeader('Last-Modified', 'Mon, 01 Jan 2024 00:00:00 GMT');
      response.end(request.url === '/Dockerfile' ? `FROM ${BASE}\nRUN echo remote > /r` : 'downloaded');
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  });

  afterAll(async () => {
    server.close();
    const images = (await subject.docker('images', '-aq')).stdout.split('\n');
    expect(await subject.close(FOREIGN ? [['rmi', '-f', ...new Set(images)]] : [])).toEqual([]);
  });

  it.each(Object.entries(ROWS).filter(([, row]) => !(FOREIGN && row.beyond)))('%s', async (_name, row) => {
    const dir = context({ ...row.files, Dockerfile: row.dockerfile });
    const { code, stdout, stderr } = await build(dir, '-t', 'build.test/made', ...(row.flags ?? []));
    expect.soft(stdout).toMatch(row.says ?? '');
    if (row.fails !== undefined) {
      expect(stderr).toContain(row.fails[1]);
      expect(code).toBe(row.fails[0]);
      return;
    }
    expect(stderr.replace(/DEPRECATED[\s\S]*?variable\.\n/, '').trim()).toBe('');
    expect(stdout).toMatch(/Successfully built [0-9a-f]{12}\nSuccessfully tagged build\.test\/made:latest\n/);
    const [script = 'true', output = ''] = row.prints ?? [];
    expect(await subject.ok('run', '--rm', '--network', 'none', 'build.test/made', 'sh', '-c', script)).toBe(output);
  });

  it('writes the config and the history that the instructions say', async () => {
    const dockerfile = `FROM ${BASE}
MAINTAINER Someone <s@build.test>
ENV A=1 B="2 3"
EXPOSE 90 80/udp
VOLUME ["/v", "/w"]
HEALTHCHECK --interval=5s --retries=2 CMD true
STOPSIGNAL SIGINT
CMD ["early"]
ENTRYPOINT ["sleep"]
LABEL a=1 "b c"='d e'
CMD 5`;
    await build(context({ Dockerfile: dockerfile }), '-t', 'build.test/config');
    const [image] = JSON.parse(await subject.ok('image', 'inspect', 'build.test/config'));
    expect(image).toMatchObject({
      Author: 'Someone <s@build.test>',
      Config: {
        Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'A=1', 'B=2 3'],
        ExposedPorts: { '80/udp': {}, '90/tcp': {} },
        Volumes: { '/v': {}, '/w': {} },
        Healthcheck: { Test: ['CMD-SHELL', 'true'], Interval: 5e9, Retries: 2 },
        StopSignal: 'SIGINT',
        Entrypoint: ['sleep'],
        Cmd: ['/bin/sh', '-c', '5'],
        Labels: { a: '1', 'b c': 'd e' },
      },
    });
    const history = await subject.ok('history', '--no-trunc', '--format', '{{.CreatedBy}}', 'build.test/config');
    const nop = '/bin/sh -c #(nop) ';
    expect(
      history
        .split('\n')
        .filter((line) => !line.includes('HEALTHCHECK'))
        .slice(0, 9),
    ).toEqual([
      `${nop} CMD ["/bin/sh" "-c" "5"]`,
      `${nop} LABEL a=1 b c=d e`,
      `${nop} ENTRYPOINT ["sleep"]`,
      `${nop} CMD ["early"]`,
      `${nop} STOPSIGNAL SIGINT`,
      `${nop} VOLUME [/v /w]`,
      `${nop} EXPOSE 80/udp 90`,
      `${nop} ENV A=1 B=2 3`,
      `${nop} MAINTAINER Someone <s@build.test>`,
    ]);
  });

  it('does again only what changed', async () => {
    const files = { Dockerfile: `FROM ${BASE}\nENV A=1\nCOPY f g /d/\nARG V\nRUN cat /d/f; echo $V`, f: 'f', g: 'g' };
    const first = await build(context(files));
    const again = await build(context(files));
    expect(ids(again.stdout)).toEqual(ids(first.stdout));
    expect(again.stdout.match(/Using cache/g)).toHaveLength(4);
    const other = await build(context(files), '--build-arg', 'V=2');
    expect(other.stdout.match(/Using cache/g)).toHaveLength(3);
    const changed = await build(context({ ...files, g: 'G' }));
    expect(changed.stdout.match(/Using cache/g)).toHaveLength(1);
    const anew = await build(context(files), '--no-cache');
    expect(anew.stdout).not.toContain('Using cache');
  });

  it('takes a Dockerfile and files from URLs, a context from stdin, and says the id alone when asked', async () => {
    const { port } = server.address() as AddressInfo;
    const url = `http://127.0.0.1:${port}`;
    const remote = await build(`${url}/Dockerfile`, '-q');
    expect(remote.stdout).toMatch(/^sha256:[0-9a-f]{64}\n$/);
    if (FOREIGN) return; // whose network namespace is another
    const added = await build(
      context({ Dockerfile: `FROM ${BASE}\nADD ${url}/name /d/\nRUN stat -c '%a %Y' /d/name; cat /d/name` }),
    );
    expect(added.stdout).toContain('600 1704067200\ndownloaded');
    const archive = gzipSync(await busyboxTar({ 'sub/Dockerfile': `FROM ${BASE}\nCOPY etc/group /g\nRUN wc -l < /g` }));
    const env = { ...subject.env, DOCKER_BUILDKIT: '0' };
    const piped = await run('docker', ['build', '-f', 'sub/Dockerfile', '-'], { env, input: archive });
    expect(piped.stdout).toContain('\n4\n');
  });

  it.skipIf(FOREIGN)('is done by our CLI, with .dockerignore and the command’s exit code', async () => {
    const dir = context({
      'sub/My.file': `FROM ${BASE}\nARG V\nCOPY . /c\nRUN cd /c && echo $V $(find . -type f | sort); test "$V" != wrong || exit 9`,
      '.dockerignore': '# all but\n*\n!kept\n!deep/**/f\ndeep/no\n',
      kept: '',
      left: '',
      'deep/a/f': '',
      'deep/a/g': '',
      'deep/no/f': '',
    });
    const flags = ['-f', join(dir, 'sub/My.file'), '-t', 'build.test/cli', '--iidfile', join(subject.dir, 'iid')];
    const made = await subject.cli('caisson', ['build', ...flags, '--build-arg', 'V=right', dir]);
    expect(made).toMatchObject({ code: 0, stderr: '' });
    expect(made.stdout).toContain('right ./deep/a/f ./kept\n');
    expect(readFileSync(join(subject.dir, 'iid'), 'utf8')).toBe(
      await subject.ok('image', 'inspect', '-f', '{{.Id}}', 'build.test/cli'),
    );
    const failed = await subject.cli('caisson', ['build', ...flags, '--force-rm', '--build-arg', 'V=wrong', dir]);
    expect(failed.code).toBe(9);
    expect(failed.stderr).toMatch(/^caisson: The command '.*' returned a non-zero code: 9\n$/);
    expect((await subject.cli('caisson', ['build', join(dir, 'nowhere')])).stderr).toContain('not found');
  });

  it('does not take an image of another platform for what it would make of nothing', async () => {
    const dir = context({ Dockerfile: 'FROM scratch\nCOPY f /', f: 'of any platform' });
    for (const architecture of ['amd64', 'arm64']) {
      await build(dir, '--platform', `linux/${architecture}`, '-t', 'build.test/nothing');
      expect(await subject.ok('image', 'inspect', '-f', '{{.Architecture}}', 'build.test/nothing')).toBe(architecture);
    }
  });

  it.skipIf(FOREIGN)('lets one command at a time use a locked cache', async () => {
    const alone = 'test ! -e /c/busy && touch /c/busy && sleep 0.5 && rm /c/busy';
    const mount = '--mount=type=cache,id=locked,target=/c,sharing=locked';
    const dirs = [1, 2, 3].map((n) => context({ Dockerfile: `FROM ${BASE}\nRUN ${mount} ${alone} # ${n}` }));
    const results = await Promise.all(dirs.map((dir) => build(dir, '--force-rm')));
    expect(results.map(({ code }) => code)).toEqual([0, 0, 0]);
  });

  it.skipIf(FOREIGN)('keeps what cache mounts hold until it is pruned', async () => {
    const run = (command: string): Promise<CommandResult> =>
      build(context({ Dockerfile: `FROM ${BASE}\nRUN --mount=type=cache,id=pruned,target=/c ${command}` }));
    await run('dd if=/dev/zero of=/c/f bs=1M count=2 2>/dev/null');
    expect((await run('du -m /c/f')).stdout).toContain('2\t/c/f');
    expect(await subject.ok('builder', 'prune', '-f')).toMatch(/Total.*: 2\.\d+MB/);
    expect((await run('ls -a /c | wc -l')).stdout).toContain('\n2\n');
  });

  it('leaves the container of a failed step, unless told to remove it', async () => {
    const dir = context({ Dockerfile: `FROM ${BASE}\nRUN touch /left; false` });
    const before = (await subject.ok('ps', '-aq')).split('\n');
    await build(dir, '--force-rm');
    expect((await subject.ok('ps', '-aq')).split('\n')).toEqual(before);
    await build(dir);
    const left = (await subject.ok('ps', '-aq', '--no-trunc'))
      .split('\n')
      .filter((id) => !before.some((old) => old && id.startsWith(old)));
    expect(left).toHaveLength(1);
    expect(await subject.ok('diff', left[0] ?? '')).toContain('A /left');
    await subject.ok('rm', left[0] ?? '');
  });

  it.skipIf(FOREIGN)('that a killed daemon was busy with leaves nothing that runs', async () => {
    const daemon = subject.daemon;
    if (daemon === undefined) return;
    await daemon.removeContainers();
    const under = build(context({ Dockerfile: `FROM ${BASE}\nRUN echo kept > /kept\nRUN sleep 1000` }));
    const command = (): Promise<string> => subject.ok('ps', '-a', '--no-trunc', '--format', '{{.Command}}');
    await vi.waitFor(async () => expect(await command()).toContain('sleep 1000'), WAIT);
    await daemon.kill();
    expect((await under).code).not.toBe(0);
    await daemon.start();
    expect(await command()).toBe('');
    const again = await build(context({ Dockerfile: `FROM ${BASE}\nRUN echo kept > /kept\nRUN true` }));
    expect(again.stdout.match(/Using cache/g)).toHaveLength(1);
  });

  it.skipIf(FOREIGN)('ends with its client', async () => {
    await subject.daemon?.removeContainers();
    const dir = context({ Dockerfile: `FROM ${BASE}\nRUN sleep 1000` });
    const client = spawn('docker', ['build', dir], { env: { ...subject.env, DOCKER_BUILDKIT: '0' }, stdio: 'ignore' });
    const command = ['ps', '--no-trunc', '--format', '{{.Command}}'];
    await vi.waitFor(async () => expect(await subject.ok(...command)).toContain('sleep 1000'), WAIT);
    client.kill();
    await vi.waitFor(async () => expect(await subject.ok('ps', '-aq')).toBe(''), WAIT);
  });
});
