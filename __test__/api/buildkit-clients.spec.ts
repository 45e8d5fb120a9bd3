/** `docker build` by BuildKit's protocol: what goes between the client, other hosts and the daemon, on ours and on dockerd (helpers/subject.ts). */
import { execFileSync, spawn } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { hashSync } from '@node-rs/bcrypt';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { BASE, Buildx } from '../helpers/buildx.ts';
import type { CommandResult } from '../helpers/daemon.ts';
import { freePort, startRegistry } from '../helpers/registry.ts';
import { missing } from '../helpers/requires.ts';
import { FOREIGN } from '../helpers/subject.ts';

const WAIT = { timeout: 30_000, interval: 50 };
/** Of tester, whose password is secret. */
const HTPASSWD = `tester:${hashSync('secret', 4)}\n`;

describe.skipIf(missing('root', 'build', 'docker', 'buildx', 'compose', 'registry', 'ssh', 'git'))(
  'docker buildx',
  () => {
    let buildx: Buildx;

    beforeAll(async () => {
      buildx = await Buildx.open();
    });

    afterAll(async () => {
      expect(await buildx.close()).toEqual([]);
    });

    it('lends the client’s ssh agent', async () => {
      const agent = join(buildx.subject.dir, 'agent');
      const child = spawn('ssh-agent', ['-D', '-a', agent], { stdio: 'ignore' });
      try {
        const dir = buildx.context({
          Dockerfile: `FROM ${BASE}
COPY root /
RUN --mount=type=ssh test -S $SSH_AUTH_SOCK && { ssh-add -l || true; } > /said
RUN --mount=type=ssh,id=default,target=/a/sock,mode=0666 stat -c %a /a/sock >> /said; ls -d /run/buildkit || true`,
        });
        const lines = execFileSync('ldd', ['/usr/bin/ssh-add'], { encoding: 'utf8' }).split('\n');
        const files = lines.flatMap((line) => /(\/\S+) \(0x/.exec(line)?.[1] ?? []);
        for (const file of ['/usr/bin/ssh-add', ...files])
          cpSync(file, join(dir, 'root', file), { recursive: true, dereference: true });
        await vi.waitFor(() => expect(readdirSync(buildx.subject.dir)).toContain('agent'), WAIT);
        buildx.env['SSH_AUTH_SOCK'] = agent;
        const { code, stderr } = await buildx.build(dir, '--ssh', 'default', '-t', 'buildkit.test/ssh');
        expect(stderr).toMatch(/naming to/);
        expect(code).toBe(0);
        expect(await buildx.subject.ok('run', '--rm', 'buildkit.test/ssh', 'cat', '/said')).toBe(
          'The agent has no identities.\n666',
        );
      } finally {
        child.kill();
      }
    });

    it('makes images without a parent: what they were built on can go', async () => {
      const lower = buildx.context({ Dockerfile: `FROM ${BASE}\nRUN echo low > /said` });
      const upper = buildx.context({ Dockerfile: 'FROM buildkit.test/lower\nRUN echo up >> /said\nENV a=b' });
      expect((await buildx.build(lower, '-t', 'buildkit.test/lower')).code).toBe(0);
      expect((await buildx.build(upper, '-t', 'buildkit.test/upper')).code).toBe(0);
      const ok = (...args: string[]): Promise<string> => buildx.subject.ok(...args);
      const id = await ok('image', 'inspect', '-f', '{{.Id}}', 'buildkit.test/lower');
      expect(await ok('image', 'inspect', '-f', '{{.Parent}}', 'buildkit.test/upper')).toBe('');
      await ok('rmi', '-f', id);
      expect((await buildx.subject.docker('image', 'inspect', id)).code).toBe(1);
      expect(await ok('run', '--rm', 'buildkit.test/upper', 'cat', '/said')).toBe('low\nup');
      // the same image again, and what was made of it serves again
      expect((await buildx.build(lower, '-t', 'buildkit.test/lower')).code).toBe(0);
      expect(await ok('image', 'inspect', '-f', '{{.Id}}', 'buildkit.test/lower')).toBe(id);
      expect((await buildx.build(upper)).stderr).toMatch(/RUN echo up >> \/said\n#\d+ CACHED/);
    });

    it('leaves what was built the image’s own: the cache shares nothing', async () => {
      const dir = buildx.context({ Dockerfile: `FROM ${BASE}\nRUN head -c 1000000 /dev/urandom > /own` });
      expect((await buildx.build(dir, '-t', 'buildkit.test/own')).code).toBe(0);
      const told = await buildx.subject.ok('system', 'df', '-v', '--format', '{{json .Images}}');
      const images = JSON.parse(told) as { Repository: string; UniqueSize: string }[];
      expect(images.find(({ Repository }) => Repository === 'buildkit.test/own')?.UniqueSize).toBe('1MB');
    });

    it('gives files in place of an image', async () => {
      const dockerfile = `FROM ${BASE} AS made
RUN mkdir -p /o/d && echo x > /o/d/x && chmod 751 /o/d/x && ln -s x /o/d/to && ln /o/d/x /o/d/same && touch /o/empty
FROM scratch
COPY --from=made /o /`;
      const dir = buildx.context({ Dockerfile: dockerfile });
      for (const output of ['out', 'type=tar,dest=out.tar'])
        expect((await buildx.build(dir, '-o', output)).stderr).toMatch(/DONE/);
      mkdirSync(join(dir, 'tar'));
      execFileSync('tar', ['-xf', join(dir, 'out.tar'), '-C', join(dir, 'tar')]);
      for (const place of ['out', 'tar']) {
        const script = 'find . | sort; cat d/x d/to; stat -c "%a %h" d/x; readlink d/to';
        const said = execFileSync('sh', ['-c', script], { cwd: join(dir, place), encoding: 'utf8' });
        expect(said).toBe('.\n./d\n./d/same\n./d/to\n./d/x\n./empty\nx\nx\n751 2\nx\n');
      }
      // what is there already need not come again
      expect((await buildx.build(dir, '-o', 'out')).code).toBe(0);
    });

    it('builds several targets that build on each other (bake)', async () => {
      const target = (text: string): object => ({ 'dockerfile-inline': text });
      const dir = buildx.context({
        'docker-bake.json': JSON.stringify({
          group: { default: { targets: ['app', 'other'] } },
          target: {
            base: target(`FROM ${BASE}\nRUN echo base > /b\nENV E=base`),
            app: {
              ...target('FROM base\nRUN cat /b > /app; echo $E >> /app'),
              contexts: { base: 'target:base' },
              tags: ['buildkit.test/app'],
            },
            other: { ...target(`FROM ${BASE}\nRUN echo other > /o`), tags: ['buildkit.test/other'] },
          },
        }),
      });
      const { code, stderr } = await buildx.docker(dir, ['buildx', 'bake', '--progress=plain']);
      expect(stderr).not.toMatch(/ERROR/);
      expect(code).toBe(0);
      expect(await buildx.subject.ok('run', '--rm', 'buildkit.test/app', 'cat', '/app')).toBe('base\nbase');
      expect(await buildx.subject.ok('run', '--rm', 'buildkit.test/other', 'cat', '/o')).toBe('other');
    });

    it('builds the services of compose', async () => {
      const dir = buildx.context({
        'compose.yaml': `services:
  one:
    image: buildkit.test/one
    build:
      context: .
      dockerfile_inline: |
        FROM ${BASE}
        RUN --mount=type=secret,id=s cat /run/secrets/s > /said
      secrets: [s]
secrets:
  s: { file: ./s }
`,
        s: 'composed',
      });
      expect((await buildx.docker(dir, ['compose', '-p', 'bkit', 'build'])).stderr).not.toMatch(/rror/);
      expect(await buildx.subject.ok('run', '--rm', 'buildkit.test/one', 'cat', '/said')).toBe('composed');
    });

    it.skipIf(FOREIGN)('fetches repositories of git', async () => {
      const dir = buildx.context({
        'repo.git/Dockerfile': `FROM ${BASE}\nCOPY . /all`,
        'repo.git/f': 'main',
        'repo.git/sub/g': '',
      });
      const repository = join(dir, 'repo.git');
      const git = (...args: string[]): void => {
        const identity = ['-c', 'user.name=t', '-c', 'user.email=t@test.test', '-c', 'init.defaultBranch=main'];
        execFileSync('git', [...identity, ...args], {
          cwd: repository,
          stdio: 'pipe',
          env: { PATH: process.env['PATH'], HOME: dir },
        });
      };
      git('init');
      git('add', '.');
      git('commit', '-m', 'first');
      git('checkout', '-b', 'other');
      writeFileSync(join(repository, 'sub/Dockerfile'), `FROM ${BASE}\nCOPY . /all`);
      symlinkSync('sub', join(repository, 'link'));
      git('add', '.');
      git('commit', '-m', 'second');
      git('checkout', 'main');
      const port = await freePort();
      const daemon = spawn(
        'git',
        ['daemon', `--base-path=${dir}`, '--export-all', '--listen=127.0.0.1', `--port=${port}`],
        { stdio: 'ignore', detached: true },
      );
      try {
        const url = `git://127.0.0.1:${port}/repo.git`;
        await vi.waitFor(() => execFileSync('git', ['ls-remote', url], { stdio: 'pipe' }), WAIT);
        const files = async (image: string, place: string): Promise<string> =>
          (
            await buildx.subject.ok(
              'run',
              '--rm',
              image,
              '/bin/sh',
              '-c',
              `cd ${place}; find . -type f | sort | grep -v '.git/'; ls -d .git 2>&-; true`,
            )
          ).replaceAll('\n', ' ');
        const fetch = (name: string, ...flags: string[]): Promise<CommandResult> =>
          buildx.docker(dir, ['build', '--progress=plain', '-t', name, ...flags]);
        expect((await fetch('buildkit.test/git', url)).stderr).toMatch(/naming to/);
        expect(await files('buildkit.test/git', '/all')).toBe('./Dockerfile ./f ./sub/g');
        expect((await fetch('buildkit.test/git', '--build-arg', 'BUILDKIT_CONTEXT_KEEP_GIT_DIR=1', url)).code).toBe(0);
        expect(await files('buildkit.test/git', '/all')).toBe('./Dockerfile ./f ./sub/g .git');
        const added = async (source: string): Promise<string> => {
          const dockerfile = `FROM ${BASE}\nADD ${source} /added`;
          expect((await buildx.docker(dir, ['build', '-t', 'buildkit.test/added', '-'], dockerfile)).code).toBe(0);
          return files('buildkit.test/added', '/added');
        };
        expect(await added(`${url}#other`)).toBe('./Dockerfile ./f ./sub/Dockerfile ./sub/g');
        git('checkout', '-b', 'nested');
        git('submodule', 'add', url, 'module');
        git('commit', '-m', 'third');
        const nested = './.gitmodules ./Dockerfile ./f';
        expect(await added(`${url}?branch=nested`)).toBe(
          `${nested} ./module/.git ./module/Dockerfile ./module/f ./module/sub/g ./sub/g`,
        );
        expect(await added(`${url}?branch=nested&submodules=false`)).toBe(`${nested} ./sub/g`);
        git('checkout', 'main', '-b', 'baked');
        const built = `FROM ${BASE}\nCOPY . /all\nCOPY --from=more . /more`;
        const bakefile = `target "default" {
  context = "sub"
  contexts = { more = "." }
  tags = ["buildkit.test/baked"]
}`;
        writeFileSync(join(repository, 'sub/Dockerfile'), built);
        writeFileSync(join(repository, 'docker-bake.hcl'), bakefile);
        git('add', 'sub', 'docker-bake.hcl');
        git('commit', '-m', 'fourth');
        expect((await buildx.docker(dir, ['buildx', 'bake', `${url}#baked`])).stderr).toMatch(/naming to/);
        expect(await files('buildkit.test/baked', '/all')).toBe('./Dockerfile ./g');
        expect(await files('buildkit.test/baked', '/more')).toBe(
          './Dockerfile ./docker-bake.hcl ./f ./sub/Dockerfile ./sub/g',
        );
        expect((await fetch('buildkit.test/none', `${url}#none`)).stderr).toMatch(
          /repository does not contain ref none/,
        );
        expect((await fetch('buildkit.test/none', `${url}#main:f`)).stderr).toMatch(/not a directory: f/);
        const named = buildx.context({ Dockerfile: `FROM ${BASE}\nCOPY --from=code /link /all` });
        expect(
          (await buildx.build(named, '-t', 'buildkit.test/named', '--build-context', `code=${url}#other`)).stderr,
        ).toMatch(/naming/);
        expect(await files('buildkit.test/named', '/all')).toBe('./Dockerfile ./g');
        // the classic builder, asked by its API: its client would fetch by itself
        const { body } =
          (await buildx.subject.daemon?.http(
            'POST',
            `/build?t=buildkit.test/classic&remote=${encodeURIComponent(`${url}#main`)}`,
          )) ?? {};
        expect(String(body)).toMatch(/Successfully tagged/);
      } finally {
        if (daemon.pid !== undefined) process.kill(-daemon.pid);
      }
    });

    it.skipIf(FOREIGN)('shows the client’s logins to registries, and pushes', async () => {
      await using registry = await startRegistry({ htpasswd: HTPASSWD });
      const base = `${registry.host}/private/base:1`;
      const login = ['login', '-u', 'tester', '--password-stdin', registry.host];
      expect((await buildx.docker(buildx.subject.dir, login, 'secret')).code).toBe(0);
      const dir = buildx.context({ Dockerfile: `FROM ${BASE}\nRUN echo pushed > /said` });
      const pushed = await buildx.build(dir, '-t', base, '--push');
      expect(pushed.stderr).toMatch(/pushing/);
      expect(pushed.code).toBe(0);
      await buildx.subject.ok('rmi', base);
      await buildx.docker(dir, ['builder', 'prune', '-af']);
      const derived = buildx.context({
        Dockerfile: `FROM ${base}\nCOPY --from=${registry.host}/private/base:1 /said /again`,
      });
      expect((await buildx.build(derived, '--pull', '-t', 'buildkit.test/derived')).stderr).toMatch(/naming to/);
      expect(await buildx.subject.ok('run', '--rm', 'buildkit.test/derived', 'cat', '/again')).toBe('pushed');
      // what was pushed serves the cache of a daemon that has not made it
      await buildx.subject.ok('rmi', 'buildkit.test/derived', base);
      await buildx.docker(dir, ['builder', 'prune', '-af']);
      expect((await buildx.build(dir, '--cache-from', base)).stderr).toMatch(/RUN echo pushed > \/said\n#\d+ CACHED/);
      await buildx.docker(dir, ['logout', registry.host]);
      await buildx.subject.ok('rmi', '-f', base);
      expect((await buildx.build(derived, '--pull')).stderr).toMatch(
        /no basic auth credentials|unauthorized|authentication required/i,
      );
    });
  },
);
