/** caisson-runtime in the hands of others: podman and containerd, as Debian has them, and dockerd run a container's whole life through it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { packageRoot } from '../../ts/packageRoot.ts';
import { type CommandResult, run } from '../helpers/daemon.ts';
import { buildImage, busyboxTar, ociArchive } from '../helpers/image.ts';
import { missing, peersRoot } from '../helpers/requires.ts';

const RUNTIME = join(packageRoot, 'build/caisson-runtime');
const IMAGE = 'docker.io/library/busybox:latest';
/** Cgroup parent and containerd namespace: what the container's cgroups lie in. */
const PARENT = `caisson-foreign-${process.pid}`;
const MEMORY = 64 << 20;

interface Caller {
  /** Makes and starts a container with 64 MiB of memory. */
  start: (id: string, ...command: string[]) => string[];
  exec: (id: string, ...command: string[]) => string[];
  pause: (id: string) => string[];
  resume: (id: string) => string[];
  /** What says the container's state, and how it names a paused one. */
  status: (id: string) => string[];
  paused: RegExp;
  kill: (id: string) => string[];
  /** In this order, once it has ended. */
  remove: ((id: string) => string[])[];
}

const PODMAN: Caller = {
  start: (id, ...command) => [
    ...['run', '-d', '--name', id, '--network', 'none', '--cgroup-parent', `/${PARENT}`, '--memory', `${MEMORY}`],
    // podman asks for more than this machine may be allowed to give
    ...['--ulimit', 'nofile=1024:1024', '--ulimit', 'nproc=1024:1024', IMAGE, ...command],
  ],
  exec: (id, ...command) => ['exec', id, ...command],
  pause: (id) => ['pause', id],
  resume: (id) => ['unpause', id],
  status: (id) => ['inspect', '--format', '{{.State.Status}}', id],
  paused: /^paused$/m,
  kill: (id) => ['kill', '-s', 'KILL', id],
  remove: [(id) => ['wait', id], (id) => ['rm', id]],
};

const DOCKERD: Caller = {
  ...PODMAN,
  start: (id, ...command) => [
    ...['run', '-d', '--name', id, '--runtime', 'caisson', '--network', 'none', '--memory', `${MEMORY}`],
    ...[IMAGE, ...command],
  ],
};

const CONTAINERD: Caller = {
  start: (id, ...command) => [
    'run',
    '-d',
    '--runc-binary',
    RUNTIME,
    '--memory-limit',
    `${MEMORY}`,
    IMAGE,
    id,
    ...command,
  ],
  exec: (id, ...command) => ['task', 'exec', '--exec-id', 'e', id, ...command],
  pause: (id) => ['task', 'pause', id],
  resume: (id) => ['task', 'resume', id],
  status: () => ['task', 'ls'],
  paused: /PAUSED$/m,
  kill: (id) => ['task', 'kill', '-s', 'KILL', id],
  remove: [(id) => ['task', 'rm', '-f', id], (id) => ['container', 'rm', id]],
};

/** The container's directories below PARENT in all hierarchies. */
const groups = (id: string): string[] =>
  ['', ...readdirSync('/sys/fs/cgroup')]
    .map((hierarchy) => join('/sys/fs/cgroup', hierarchy, PARENT))
    .filter((parent) => existsSync(parent))
    .flatMap((parent) => readdirSync(parent).map((name) => join(parent, name)))
    .filter((path) => path.includes(id) && !path.includes('conmon'));

const limitOf = (id: string): string => {
  const files = groups(id).flatMap((dir) => [join(dir, 'memory.limit_in_bytes'), join(dir, 'memory.max')]);
  return files.filter((file) => existsSync(file)).map((file) => readFileSync(file, 'utf8').trim())[0] ?? 'no limit';
};

/** A daemon's word that it serves; what it says later is passed over. */
async function said(daemon: ChildProcess, words: string): Promise<void> {
  let text = '';
  await new Promise<void>((resolve, reject) => {
    daemon.once('exit', () => reject(new Error(text)));
    daemon.stderr?.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      if (text.includes(words)) resolve();
    });
  });
}

describe.skipIf(missing('root', 'build', 'busybox', 'podman', 'containerd', 'docker', 'dockerd'))(
  'caisson-runtime under',
  () => {
    const dir = mkdtempSync(join(tmpdir(), 'caisson-foreign-'));
    const socket = join(dir, 'c.sock');
    const dockerSocket = `unix://${join(dir, 'd.sock')}`;
    let containerd: ChildProcess;
    let dockerd: ChildProcess;

    const callers = {
      podman: (args: string[]) =>
        run('podman', [
          ...['--root', join(dir, 'podman'), '--runroot', join(dir, 'run'), '--tmpdir', join(dir, 'tmp')],
          ...['--cgroup-manager', 'cgroupfs', '--events-backend', 'file', '--runtime', RUNTIME, ...args],
        ]),
      dockerd: (args: string[]) => run('docker', ['-H', dockerSocket, ...args]),
      containerd: (args: string[]) => run('ctr', ['-a', socket, '-n', PARENT, ...args]),
    };

    beforeAll(async () => {
      const archive = join(dir, 'busybox.tar');
      const layer = await busyboxTar();
      writeFileSync(archive, await ociArchive(buildImage([layer]), IMAGE));
      // dockerd's own store takes no OCI archive
      const root = join(dir, 'root.tar');
      writeFileSync(root, layer);
      const empty = join(dir, 'daemon.json');
      writeFileSync(empty, '{}');
      const config = join(dir, 'containerd.toml');
      writeFileSync(
        config,
        [
          'version = 2',
          `root = "${join(dir, 'containerd')}"`,
          `state = "${join(dir, 'state')}"`,
          'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]',
          '[grpc]',
          `address = "${socket}"`,
        ].join('\n'),
      );
      containerd = spawn('containerd', ['-c', config], { stdio: ['ignore', 'ignore', 'pipe'] });
      await said(containerd, 'successfully booted');
      expect(await callers.containerd(['image', 'import', archive])).toMatchObject({ code: 0 });
      expect(await callers.podman(['load', '-i', archive])).toMatchObject({ code: 0 });

      const roots = ['--data-root', join(dir, 'docker'), '--exec-root', join(dir, 'exec'), '--config-file', empty];
      const network = ['--bridge', 'none', '--iptables=false', '--ip6tables=false', '--ip-forward=false'];
      dockerd = spawn(
        join(peersRoot, 'usr/sbin/dockerd'),
        [
          ...['-H', dockerSocket, '--pidfile', join(dir, 'd.pid'), '--cgroup-parent', `/${PARENT}`],
          ...[...roots, ...network, '--userland-proxy=false', '--add-runtime', `caisson=${RUNTIME}`],
        ],
        {
          stdio: ['ignore', 'ignore', 'pipe'],
          env: { ...process.env, PATH: `${join(peersRoot, 'usr/bin')}:${process.env['PATH'] ?? ''}` },
        },
      );
      await said(dockerd, 'API listen on');
      expect(await callers.dockerd(['import', root, IMAGE])).toMatchObject({ code: 0 });
    }, 60_000);

    afterAll(async () => {
      for (const daemon of [dockerd, containerd]) {
        daemon.kill('SIGTERM');
        if (daemon.exitCode === null) await once(daemon, 'exit');
      }
      await run('podman', ['--root', join(dir, 'podman'), '--runroot', join(dir, 'run'), 'unmount', '--all']);
      const parents = ['', ...readdirSync('/sys/fs/cgroup')].map((hierarchy) =>
        join('/sys/fs/cgroup', hierarchy, PARENT),
      );
      for (const parent of parents.filter((path) => existsSync(path))) {
        // podman writes into directories of hierarchies that are not mounted, too
        if (!existsSync(join(parent, 'cgroup.procs'))) rmSync(parent, { recursive: true });
        // the monitor of its container is there until it has seen it removed
        else
          await vi.waitFor(async () =>
            expect(await run('find', [parent, '-depth', '-type', 'd', '-delete'])).toMatchObject({ code: 0 }),
          );
      }
      for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n').reverse()) {
        const place = line.split(' ')[4] ?? '';
        if (place.startsWith(dir)) await run('umount', [place]);
      }
      rmSync(dir, { recursive: true });
    });

    test.each([
      ['podman', callers.podman, PODMAN],
      ['containerd', callers.containerd, CONTAINERD],
      ['dockerd', callers.dockerd, DOCKERD],
    ] as const)('%s: run, limits, exec, pause, resume, kill, remove', async (name, call, caller) => {
      const id = `foreign-${name}`;
      const ok = async (args: string[]): Promise<CommandResult> => {
        const result = await call(args);
        expect(result, args.join(' ')).toMatchObject({ code: 0 });
        return result;
      };
      const { stdout } = await ok(caller.start(id, 'sleep', '1000'));
      const inner = name === 'containerd' ? id : stdout.trim();
      expect(limitOf(inner)).toBe(String(MEMORY));

      const exec = await call(caller.exec(id, 'sh', '-c', 'echo to stdout; echo to stderr >&2; exit 7'));
      expect(exec).toMatchObject({ code: 7, stdout: 'to stdout\n' });
      expect(exec.stderr).toContain('to stderr\n');

      await ok(caller.pause(id));
      expect((await ok(caller.status(id))).stdout).toMatch(caller.paused);
      await ok(caller.resume(id));
      expect((await ok(caller.status(id))).stdout).not.toMatch(caller.paused);
      expect(await call(caller.exec(id, 'true'))).toMatchObject({ code: 0 });

      await ok(caller.kill(id));
      for (const step of caller.remove) await call(step(id));
      expect(groups(inner)).toEqual([]);
      expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(inner);
      expect(existsSync(`/run/caisson-runtime/${inner}`)).toBe(false);
    });
  },
);
