/** What create's options do, seen from inside the container or from the client, on the way that Docker's clients take. */
import { once } from 'node:events';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { oracle } from '../helpers/oracle.ts';
import { missing } from '../helpers/requires.ts';

const daemon: TestDaemon = new TestDaemon();
const cdi = join(daemon.dir, 'cdi');
const docker = (...args: string[]) => daemon.docker(args);
const ok = (...args: string[]): Promise<string> => daemon.dockerOk(...args);
const run = async (...args: string[]): Promise<string> => (await ok('run', '--rm', ...args)).trim();
const start = async (...args: string[]): Promise<string> => (await ok('run', '-d', ...args)).trim();

describe.skipIf(missing('root', 'build', 'docker', 'busybox'))('options of containers', () => {
  beforeAll(async () => {
    await daemon.start({}, ['--cdi-spec-dir', cdi]);
    await daemon.loadBusybox();
  });
  afterAll(() => daemon[Symbol.asyncDispose]());
  afterEach(async () => {
    await daemon.removeContainers();
    expect(await oracle(daemon)).toEqual([]);
  });

  it('a root has what every container has, whatever its image lacks', async () => {
    const script = 'ls /.dockerenv; readlink /etc/mtab; touch /.dockerenv && rm /etc/mtab';
    expect(await ok('run', '--name', 'init', 'busybox', 'sh', '-c', script)).toBe('/.dockerenv\n/proc/mounts');
    expect(await ok('diff', 'init')).toBe('C /.dockerenv\nC /etc\nD /etc/mtab');
    expect(await run('busybox', 'readlink', '/etc/mtab'), 'one container does not change it for others').toBe(
      '/proc/mounts',
    );
    await ok('create', '--name', 'new', 'busybox');
    expect((await docker('cp', 'new:/etc/hosts', '-')).code, 'before its first start').toBe(0);
  });

  describe('CDI devices', () => {
    beforeAll(() => {
      mkdirSync(cdi, { recursive: true });
      writeFileSync(join(daemon.dir, 'given'), 'by the vendor\n');
      writeFileSync(
        join(cdi, 'vendor.yaml'),
        `cdiVersion: "0.6.0"
kind: vendor.example/thing
containerEdits:
  env: [ALL=1]
devices:
- name: one
  containerEdits:
    env: [ONE=1, PATH=/bin]
    deviceNodes:
    - {path: /dev/thing, hostPath: /dev/kmsg, permissions: r}
    mounts:
    - {hostPath: ${daemon.dir}/given, containerPath: /given, options: [ro, bind]}
    hooks:
    - {hookName: createContainer, path: /bin/sh, args: [sh, -c, 'cat >${daemon.dir}/hooked']}
- name: two
  containerEdits:
    env: [TWO=2]
`,
      );
      writeFileSync(join(cdi, 'broken.json'), '{"cdiVersion": "0.6.0"}');
    });

    it('give what their files say, and what is common to them once', async () => {
      const script = 'echo $ALL $ONE $TWO $PATH; cat /given; ls -l /dev/thing; echo x >/dev/thing';
      const devices = ['--device', 'vendor.example/thing=one', '--device', 'vendor.example/thing=two'];
      const result = await docker('run', '--rm', ...devices, 'busybox', 'sh', '-c', script);
      expect(result.stdout).toMatch(/^1 1 2 \/bin\nby the vendor\ncrw.*1, +11 .*\/dev\/thing\n$/);
      expect(result.stderr).toContain("can't create /dev/thing: Operation not permitted");
    });

    it('are told of by info, with what is wrong with their files', async () => {
      const info = JSON.parse(await ok('info', '--format', 'json')) as Record<string, unknown>;
      expect(info['CDISpecDirs']).toEqual([cdi]);
      expect(info['DiscoveredDevices']).toEqual([
        { Source: 'cdi', ID: 'vendor.example/thing=one' },
        { Source: 'cdi', ID: 'vendor.example/thing=two' },
      ]);
      expect(info['Warnings']).toContainEqual(expect.stringContaining('broken.json: invalid kind'));
    });

    it.each([
      [
        ['--device', 'vendor.example/thing=no'],
        'CDI device injection failed: unresolvable CDI devices vendor.example/thing=no',
      ],
      [['--gpus', 'all'], 'could not select device driver "" with capabilities: [[gpu]]'],
    ])('%j is refused at the start', async (flags, message) => {
      const { code, stderr } = await docker('run', ...flags, 'busybox', 'true');
      expect({ code, stderr }).toEqual({ code: 125, stderr: expect.stringContaining(message) });
    });
  });

  describe('links', () => {
    it('are names of the target, through renames of both, until they are removed', async () => {
      const target = await start('--name', 'db', 'busybox', 'sleep', '1d');
      await start('--name', 'app', '--link', 'db:store', 'busybox', 'sleep', '1d');
      await ok('rename', 'db', 'db2');
      await ok('rename', 'app', 'app2');
      expect((await ok('inspect', '-f', '{{.Id}} {{.Name}}', 'app2/store')).trim()).toBe(`${target} /db2`);
      expect((await ok('inspect', '-f', '{{json .HostConfig.Links}}', 'app2')).trim()).toBe('["/db2:/app2/store"]');
      const listed = JSON.parse((await daemon.http('GET', '/containers/json')).body) as { Names: string[] }[];
      expect(listed.map(({ Names }) => Names)).toEqual([['/app2'], ['/db2', '/app2/store']]);
      await ok('restart', '-t', '0', 'app2');
      expect(await ok('exec', 'app2', 'cat', '/etc/hosts')).toContain(`store ${target.slice(0, 12)} db2`);
      await ok('rm', '--link', 'app2/store');
      expect((await docker('inspect', 'app2/store')).stderr).toContain('No such');
      expect((await ok('inspect', '-f', '{{json .HostConfig.Links}}', 'app2')).trim()).toBe('null');
      expect((await docker('rm', '--link', 'db2')).stderr).toContain('cannot remove the default link name');
    });
  });

  describe('attach with logs', () => {
    it('first gives what was said, then what is said', async () => {
      const id = await start('-i', 'busybox', 'sh', '-c', 'echo before; echo err >&2; read line; echo after $line');
      while (!(await docker('logs', id)).stderr.includes('err'));
      const path = `/containers/${id}/attach?logs=1&stdout=1&stderr=1`;
      const past = await daemon.http('POST', path);
      expect(past.body).toBe('\x01\0\0\0\0\0\0\x07before\n\x02\0\0\0\0\0\0\x04err\n');
      const whole = daemon.http('POST', `${path}&stream=1`);
      const input = await daemon.docker(['attach', id], { input: 'x\n' });
      expect(input.stdout).toBe('after x\n');
      expect((await whole).body).toBe(`${past.body}\x01\0\0\0\0\0\0\x08after x\n`);
    });
  });

  describe('attach before the start', () => {
    /** A client's connection, whose answer has come. */
    async function attached(container: string, query: string): Promise<Socket> {
      const socket = connect(daemon.socket);
      const head = 'Host: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n';
      socket.write(`POST /containers/${container}/attach?stream=1&${query} HTTP/1.1\r\n${head}`);
      expect(String((await once(socket, 'data'))[0])).toContain('101 UPGRADED');
      return socket;
    }
    const descriptors = (): number => readdirSync(`/proc/${daemon.pid}/fd`).length;

    it('lets go of clients that leave, not of those that only have nothing to say', async () => {
      await ok('create', '-i', '--name', 'waiting', 'busybox', 'echo', 'output');
      const before = descriptors();
      const stays = await attached('waiting', 'stdout=1');
      stays.end();
      const leave = await Promise.all(
        Array.from({ length: 40 }, (_, at) => attached('waiting', at % 2 ? 'stdout=1' : 'stdin=1&stdout=1')),
      );
      expect(descriptors()).toBeGreaterThan(before + 40);
      for (const socket of leave) socket.destroy();
      await vi.waitFor(() => expect(descriptors()).toBeLessThan(before + 20), { timeout: 10_000 });
      const chunks: Buffer[] = [];
      stays.on('data', (chunk: Buffer) => chunks.push(chunk));
      const closed = once(stays, 'close');
      await ok('start', 'waiting');
      await closed;
      expect(Buffer.concat(chunks).toString()).toBe('\x01\0\0\0\0\0\0\x07output\n');
    });

    it('keeps what they have sent before, and that no more will come', async () => {
      await ok('create', '-i', '--name', 'reader', 'busybox', 'cat');
      const before = descriptors();
      const socket = await attached('reader', 'stdin=1&stdout=1');
      const held = descriptors();
      socket.write('input\n', () => socket.destroy());
      await once(socket, 'close');
      await vi.waitFor(() => expect(descriptors()).toBeLessThan(held), { timeout: 10_000 });
      expect(descriptors()).toBeLessThanOrEqual(before + 1);
      await ok('start', 'reader');
      expect((await ok('wait', 'reader')).trim()).toBe('0');
      expect(await ok('logs', 'reader')).toBe('input');
    });
  });

  describe('namespaces of others', () => {
    it('IPC objects are shared by who is shareable, and by nobody else', async () => {
      const open = await start('--ipc', 'shareable', 'busybox', 'sleep', '1d');
      const own = (id: string) => ok('exec', id, 'readlink', '/proc/self/ns/ipc');
      const guest = await start('--ipc', `container:${open}`, 'busybox', 'sleep', '1d');
      expect(await own(guest)).toBe(await own(open));
      await ok('exec', open, 'sh', '-c', 'echo shared > /dev/shm/file');
      expect(await ok('exec', guest, 'cat', '/dev/shm/file')).toBe('shared');
      const closed = await start('busybox', 'sleep', '1d');
      const { stderr } = await docker('run', '--ipc', `container:${closed}`, 'busybox', 'true');
      expect(stderr).toContain(`failed to join IPC namespace: container ${closed}: non-shareable IPC`);
    });

    it('of a container that does not run cannot be joined', async () => {
      await ok('create', '--name', 'still', 'busybox', 'true');
      const { stderr } = await docker('run', '--pid', 'container:still', 'busybox', 'true');
      expect(stderr).toMatch(/failed to join PID namespace: container [0-9a-f]{64} is not running/);
    });
  });

  it('NetworkDisabled leaves a container its loopback alone', async () => {
    const body = { Image: 'busybox', Cmd: ['ls', '/sys/class/net'], NetworkDisabled: true };
    const created = await daemon.http('POST', '/containers/create?name=alone', body);
    expect(created.status).toBe(201);
    expect((await daemon.docker(['start', '-a', 'alone'])).stdout.trim()).toBe('lo');
    expect(await ok('inspect', '-f', '{{.HostConfig.NetworkMode}} {{json .NetworkSettings.Networks}}', 'alone')).toBe(
      'bridge {}',
    );
  });

  it('a container that removes itself can be restarted', async () => {
    const id = await start('--rm', 'busybox', 'sleep', '1d');
    await ok('restart', '-t', '0', id);
    expect((await ok('inspect', '-f', '{{.State.Status}}', id)).trim()).toBe('running');
  });

  it('the first check of health comes after the start interval', async () => {
    const times = ['--health-start-period', '1h', '--health-start-interval', '10ms', '--health-interval', '1h'];
    const id = await start('--health-cmd', 'true', ...times, 'busybox', 'sleep', '1d');
    const events = daemon.http(
      'GET',
      `/events?since=0&until=${Math.ceil(Date.now() / 1000) + 5}&filters={"event":["health_status"]}`,
    );
    expect((await events).body).toContain('health_status: healthy');
    expect((await ok('inspect', '-f', '{{.State.Health.Status}}', id)).trim()).toBe('healthy');
  });

  it.each([
    ['0', '0 max'],
    ['-1', '0 max'],
    ['7', '7 7'],
  ])('the limit of pids is updated to %s', async (limit, expected) => {
    const id = await start('--pids-limit', '20', 'busybox', 'sleep', '1d');
    await daemon.http('POST', `/containers/${id}/update`, { PidsLimit: Number(limit) });
    const shown = (await ok('inspect', '-f', '{{.HostConfig.PidsLimit}}', id)).trim();
    const max = await ok(
      'exec',
      id,
      'sh',
      '-c',
      'cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max',
    );
    expect(`${shown} ${max.trim()}`).toBe(expected);
  });

  it.each([
    [[], 1],
    [['--security-opt', 'writable-cgroups=true'], 0],
    [['--security-opt', 'writable-cgroups=false'], 1],
  ])('cgroups can be made inside: %j', async (flags, code) => {
    const script = 'cd /sys/fs/cgroup; [ -d pids ] && cd pids; mkdir own && rmdir own';
    expect((await docker('run', '--rm', ...flags, 'busybox', 'sh', '-c', script)).code).toBe(code);
  });

  it('a seccomp profile of the user filters a privileged container too', async () => {
    const profile = join(daemon.dir, 'no-chown.json');
    const rule = { names: ['chown', 'fchownat'], action: 'SCMP_ACT_ERRNO' };
    writeFileSync(profile, JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: [rule] }));
    const flags = ['--privileged', '--security-opt', `seccomp=${profile}`];
    expect((await docker('run', '--rm', ...flags, 'busybox', 'chown', '1', '/bin')).stderr).toContain('not permitted');
    expect(await run('--privileged', 'busybox', 'chown', '1', '/bin')).toBe('');
  });

  it('the working directory is shown without a slash at its end', async () => {
    const id = (await ok('create', '-w', '/tmp/../tmp/', 'busybox')).trim();
    expect((await ok('inspect', '-f', '{{.Config.WorkingDir}}', id)).trim()).toBe('/tmp');
  });

  describe('volumes made by --mount', () => {
    afterEach(() => docker('volume', 'rm', '-f', 'made', 'kept'));

    it('have the labels and options given there', async () => {
      const options = 'volume-opt=type=tmpfs,volume-opt=device=tmpfs,"volume-opt=o=size=1m,mode=700",volume-label=a=b';
      const seen = await run('--mount', `src=made,dst=/v,${options}`, 'busybox', 'grep', ' /v ', '/proc/mounts');
      expect(seen).toMatch(/^tmpfs \/v tmpfs .*size=1024k,mode=700/);
      const { Labels, Options } = JSON.parse(await ok('volume', 'inspect', '-f', '{{json .}}', 'made')) as {
        Labels: unknown;
        Options: unknown;
      };
      expect(Labels).toEqual({ a: 'b' });
      expect(Options).toEqual({ type: 'tmpfs', device: 'tmpfs', o: 'size=1m,mode=700' });
    });

    it.each([
      [{ Name: 'nope' }, 404, 'create made: error looking up volume plugin nope: plugin "nope" not found'],
      [{ Options: { nope: '1' } }, 400, 'create made: invalid option: "nope"'],
    ])('by %j are refused, and leave nothing', async (DriverConfig, status, message) => {
      const mount = { Type: 'volume', Source: 'made', Target: '/v', VolumeOptions: { DriverConfig } };
      const body = { Image: 'busybox', HostConfig: { Mounts: [mount] } };
      const answer = await daemon.http('POST', '/containers/create', body);
      expect(answer.status).toBe(status);
      expect(JSON.parse(answer.body)).toMatchObject({ message });
      expect(await ok('volume', 'ls', '-q')).toBe('');
    });

    it('with a name are pruned for clients before 1.42 only', async () => {
      await ok('volume', 'create', 'kept');
      const pruned = async (version: string) =>
        (JSON.parse((await daemon.http('POST', `/v${version}/volumes/prune`)).body) as { VolumesDeleted: string[] })
          .VolumesDeleted;
      expect(await pruned('1.42')).toEqual([]);
      expect(await pruned('1.41')).toEqual(['kept']);
    });
  });

  it.each([
    ['', 'rslave'],
    [':rshared', 'rshared'],
  ])("a bind of the daemon's own directory follows the host: '%s'", async (mode, propagation) => {
    const id = (await ok('create', '-v', `${daemon.dataRoot}:/data${mode}`, 'busybox')).trim();
    expect((await ok('inspect', '-f', '{{(index .Mounts 0).Propagation}}', id)).trim()).toBe(propagation);
    expect((await docker('create', '-v', `${daemon.dataRoot}:/data:private`, 'busybox')).stderr).toContain(
      'must use either propagation mode "rslave" or "rshared"',
    );
  });

  it.each([
    ['always', 'USR1', true],
    ['unless-stopped', 'USR1', false],
    ['always', 'TERM', false],
    ['unless-stopped', 'TERM', false],
  ])(
    'with the policy %s and the stop signal %s, kill -s TERM is followed by a restart: %s',
    async (policy, stop, again) => {
      const script = 'trap "exit 3" TERM; echo ready; while :; do sleep 0.05; done';
      const id = await start('--restart', policy, '--stop-signal', stop, 'busybox', 'sh', '-c', script);
      while (!(await docker('logs', id)).stdout.includes('ready'));
      const ended = daemon.http('POST', `/containers/${id}/wait?condition=next-exit`);
      await ok('kill', '-s', 'TERM', id);
      expect(JSON.parse((await ended).body)).toMatchObject({ StatusCode: 3 });
      const status = (await ok('inspect', '-f', '{{.State.Status}}', id)).trim();
      expect(['restarting', 'running'].includes(status)).toBe(again);
    },
  );
});
