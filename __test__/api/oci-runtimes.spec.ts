/**
 * Containers that other OCI runtimes build, through the real client: runc and our own runtime's command line. The first part
 * runs on dockerd as well (helpers/subject.ts; started with `--add-runtime by-runc=/usr/sbin/runc`, and by-caisson alike).
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { packageRoot } from '../../ts/packageRoot.ts';
import { TestDaemon } from '../helpers/daemon.ts';
import { missing } from '../helpers/requires.ts';
import { FOREIGN, Subject } from '../helpers/subject.ts';

const IMAGE = 'oci-runtimes.test/busybox:latest';
const USERS = { 'etc/passwd': 'root:x:0:0::/root:/bin/sh\nweb:x:33:33::/srv:/bin/sh\n', 'etc/group': 'web:x:33:\n' };
const OWN = join(packageRoot, 'build/caisson-runtime');
const FLAGS = ['--add-runtime', 'by-runc=runc', '--add-runtime', `by-caisson=${OWN}`];
const NEEDS = ['root', 'build', 'docker', 'busybox', 'runc'] as const;
const LOOP = 'trap "echo ended; exit 3" TERM; trap "echo usr1" USR1; echo ready; while :; do sleep 0.05; done';

/** Resolves when the container's log has the word. */
async function said(subject: Subject, name: string, word: string): Promise<void> {
  await vi.waitFor(async () => expect(await subject.ok('logs', name)).toContain(word), { timeout: 20_000 });
}

describe.skipIf(missing(...NEEDS)).each(['by-runc', 'by-caisson'])('a container %s', (runtime) => {
  let subject: Subject;
  const run = (...args: string[]) => subject.docker('run', '--rm', '--runtime', runtime, ...args);
  const output = async (...args: string[]): Promise<string> => (await run(...args)).stdout;

  beforeAll(async () => {
    subject = await Subject.open(USERS, FLAGS);
    await subject.ok('import', '-c', 'CMD ["sh"]', subject.archive, IMAGE);
  });
  afterAll(async () => {
    expect(await subject.close([['rmi', '-f', IMAGE]])).toEqual([]);
  });

  test('runs as asked: streams, exit code, user, directory, environment', async () => {
    const script = 'id -u; pwd; echo $WHO $HOME; hostname; echo wrong >&2; exit 7';
    const args = ['-u', 'web', '-w', '/made', '-e', 'WHO=me', '-h', 'named', IMAGE, 'sh', '-c', script];
    expect(await run(...args)).toMatchObject({ code: 7, stdout: '33\n/made\nme /srv\nnamed\n', stderr: 'wrong\n' });
  });

  test('has the confinement of any other', async () => {
    const script = 'grep -E "^(CapEff|Seccomp):" /proc/self/status; ulimit -n; ls /proc/acpi 2>/dev/null | wc -l';
    const confined = await output('--ulimit', 'nofile=77', IMAGE, 'sh', '-c', script);
    expect(confined).toBe('CapEff:\t00000000a80425fb\nSeccomp:\t2\n77\n0\n');
    const free = await output('--cap-drop', 'ALL', '--security-opt', 'seccomp=unconfined', IMAGE, 'sh', '-c', script);
    expect(free).toContain('CapEff:\t0000000000000000\nSeccomp:\t0\n');
  });

  test('has its network, its names and its sysctls', async () => {
    const script = 'ip -o -4 addr show eth0 | wc -l; cat /proc/sys/net/ipv4/ip_forward; grep -c named /etc/hosts';
    const args = ['-h', 'named', '--sysctl', 'net.ipv4.ip_forward=1', IMAGE, 'sh', '-c', script];
    expect(await output(...args)).toBe('1\n1\n1\n');
  });

  test('has a terminal', async () => {
    const command = `docker run --rm -t --runtime ${runtime} ${IMAGE} sh -c 'tty; echo on terminal'`;
    const shown = execFileSync('script', ['-qec', command, '/dev/null'], { env: subject.env, encoding: 'utf8' });
    expect(shown.split(/\r+\n/)).toEqual(['/dev/pts/0', 'on terminal', '']);
  });

  test('says what cannot be executed', async () => {
    const none = await run(IMAGE, 'no-such-program');
    expect(none.code).toBe(127);
    expect(none.stderr).toContain('exec: "no-such-program": executable file not found in $PATH');
    expect((await run(IMAGE, '/etc')).code).toBe(126);
  });

  test('has an init', async () => {
    const script = 'tr "\\0" " " < /proc/1/cmdline; [ $$ != 1 ]';
    expect(await run('--init', IMAGE, 'sh', '-c', script)).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('/sbin/docker-init -- sh -c'),
    });
    expect((await run('--init', IMAGE, 'no-such-program')).code).toBe(127);
  });

  test('sees parts of volumes, images, and files that it cannot write', async () => {
    await subject.ok('volume', 'create', 'parts');
    await output('-v', 'parts:/v', IMAGE, 'sh', '-c', 'mkdir -p /v/a; echo deep > /v/a/f; echo file > /v/x');
    const part = ['--mount', 'type=volume,src=parts,dst=/m,volume-subpath=a'];
    const file = ['--mount', 'type=volume,src=parts,dst=/x,volume-subpath=x'];
    const image = ['--mount', `type=image,src=${IMAGE},dst=/img`];
    expect(await output(...part, ...file, ...image, IMAGE, 'cat', '/m/f', '/x', '/img/etc/group')).toBe(
      'deep\nfile\nweb:x:33:\n',
    );
    writeFileSync(join(subject.dir, 'f'), 'bound\n');
    const bind = await run('-v', `${subject.dir}:/b:ro`, IMAGE, 'sh', '-c', 'cat /b/f; echo x > /b/f');
    expect(bind).toMatchObject({ code: 1, stdout: 'bound\n' });
    expect(bind.stderr).toContain('Read-only file system');
    await subject.ok('volume', 'rm', 'parts');
  });

  test('takes what runs in it, its signals, its limits and its files, and leaves nothing', async () => {
    const start = ['run', '-d', '--name', 'one', '--runtime', runtime, '-m', '64m', '-v', 'files:/data'];
    await subject.ok(...start, IMAGE, 'sh', '-c', LOOP);
    await said(subject, 'one', 'ready');
    expect(await subject.docker('exec', '-u', 'web', 'one', 'sh', '-c', 'id -un; exit 5')).toMatchObject({
      code: 5,
      stdout: 'web\n',
    });
    expect(await subject.cli('docker', ['exec', '-i', 'one', 'cat'], 'fed')).toMatchObject({ code: 0, stdout: 'fed' });
    const terminal = execFileSync('script', ['-qec', 'docker exec -t one tty', '/dev/null'], { env: subject.env });
    expect(terminal.toString().trim()).toBe('/dev/pts/0');
    expect(await subject.docker('exec', 'one', 'no-such-program')).toMatchObject({ code: 127 });
    expect(await subject.docker('exec', '-u', 'nobody-here', 'one', 'true')).toMatchObject({ code: 1 });

    await subject.ok('kill', '-s', 'USR1', 'one');
    await said(subject, 'one', 'usr1');
    await subject.ok('pause', 'one');
    expect(await subject.ok('inspect', '-f', '{{.State.Status}}', 'one')).toBe('paused');
    await subject.ok('unpause', 'one');
    await subject.ok('update', '-m', '32m', '--memory-swap', '32m', 'one');
    expect(await subject.ok('stats', '--no-stream', '--format', '{{.MemUsage}}', 'one')).toMatch(/ \/ 32MiB$/);

    await subject.ok('exec', 'one', 'sh', '-c', 'echo in volume > /data/f; echo in root > /f');
    writeFileSync(join(subject.dir, 'copied'), 'from outside\n');
    await subject.ok('cp', join(subject.dir, 'copied'), 'one:/data/copied');
    await subject.ok('cp', 'one:/data/f', join(subject.dir, 'volume'));
    await subject.ok('cp', 'one:/f', join(subject.dir, 'root'));
    expect(readFileSync(join(subject.dir, 'volume'), 'utf8')).toBe('in volume\n');
    expect(readFileSync(join(subject.dir, 'root'), 'utf8')).toBe('in root\n');
    expect(await subject.ok('exec', 'one', 'cat', '/data/copied')).toBe('from outside');
    expect(await subject.ok('diff', 'one')).toContain('A /f');
    await subject.ok('commit', 'one', 'oci-runtimes.test/made');
    expect(await output('oci-runtimes.test/made', 'cat', '/f')).toBe('in root\n');
    await subject.ok('rmi', 'oci-runtimes.test/made');

    await subject.ok('stop', 'one');
    expect(await subject.ok('inspect', '-f', '{{.State.ExitCode}} {{.HostConfig.Runtime}}', 'one')).toBe(
      `3 ${runtime}`,
    );
    expect(await subject.ok('logs', 'one')).toBe('ready\nusr1\nended');
    await subject.ok('start', 'one');
    await subject.ok('rm', '-f', 'one');
    await subject.ok('volume', 'rm', 'files');
  });

  test('shares its namespaces with containers of any kind', async () => {
    const kinds = FOREIGN === undefined ? [runtime, 'caisson'] : [runtime, 'runc'];
    await subject.ok('run', '-d', '--name', 'first', '--runtime', runtime, '--ipc', 'shareable', IMAGE, 'sleep', '60');
    await subject.ok('exec', 'first', 'sh', '-c', 'echo shared > /dev/shm/f');
    const address = await subject.ok('exec', 'first', 'hostname', '-i');
    for (const kind of kinds) {
      const shared = ['--ipc', 'container:first', '--pid', 'container:first', '--network', 'container:first'];
      const script = 'cat /dev/shm/f; hostname -i; tr "\\0" " " < /proc/1/cmdline';
      const args = ['run', '--rm', '--runtime', kind, ...shared, IMAGE, 'sh', '-c', script];
      expect(await subject.ok(...args)).toBe(`shared\n${address}\nsleep 60`);
    }
    await subject.ok('rm', '-f', 'first');
  });
});

describe.skipIf(missing(...NEEDS) || FOREIGN !== undefined)('runtimes of a daemon', () => {
  let subject: Subject;
  const daemon = (): TestDaemon => subject.daemon as TestDaemon;
  const script = (name: string, content: string): string => {
    const path = join(subject.dir, name);
    writeFileSync(path, `#!/bin/sh\n${content}\n`);
    chmodSync(path, 0o755);
    return path;
  };

  beforeAll(async () => {
    subject = await Subject.open(USERS, FLAGS);
    await subject.ok('import', '-c', 'CMD ["sh"]', subject.archive, IMAGE);
  });
  afterAll(async () => {
    expect(await subject.close([])).toEqual([]);
  });

  test('outlive it, and their shims are missed', async () => {
    await subject.ok('run', '-d', '--name', 'on', '--runtime', 'by-runc', IMAGE, 'sh', '-c', LOOP);
    await said(subject, 'on', 'ready');
    await daemon().kill();
    await daemon().start();
    expect(await subject.ok('exec', 'on', 'echo', 'alive')).toBe('alive');
    await subject.ok('kill', '-s', 'USR1', 'on');
    await said(subject, 'on', 'usr1');
    const id = await subject.ok('inspect', '-f', '{{.Id}}', 'on');
    const shims = readdirSync('/proc').filter((pid) => {
      const command = /^\d+$/.test(pid) ? readCommand(pid) : '';
      return command.startsWith('caisson-shim\0') && command.includes(id);
    });
    expect(shims).toHaveLength(1);
    process.kill(Number(shims[0]), 'SIGKILL');
    await vi.waitFor(async () =>
      expect(await subject.ok('inspect', '-f', '{{.State.Status}} {{.State.ExitCode}}', 'on')).toBe('exited 137'),
    );
    await subject.ok('start', 'on');
    expect(await subject.ok('exec', 'on', 'echo', 'again')).toBe('again');
    await subject.ok('rm', '-f', 'on');
  });

  test.each(['start.build:after', 'start.release:before'])(
    'leave nothing of a start that was cut off at %s',
    async (at) => {
      await daemon().kill();
      await daemon().start({ CAISSON_CRASH_AT: at });
      const { code } = await subject.docker('run', '-d', '--name', 'cut', '--runtime', 'by-runc', IMAGE, 'sleep', '60');
      expect(code).not.toBe(0);
      await daemon().kill();
      await daemon().start();
      expect(await subject.ok('inspect', '-f', '{{.State.Status}}', 'cut')).toBe('created');
      expect(readdirSync(join(daemon().execRoot, 'c'))).toEqual([]);
      await subject.ok('start', 'cut');
      await subject.ok('rm', '-f', 'cut');
    },
  );

  test('come from its file, with arguments, and change by SIGHUP', async () => {
    const file = join(subject.dir, 'daemon.json');
    const write = (content: object): void => writeFileSync(file, JSON.stringify(content));
    const wrapped = script('wrapped', 'echo "$1" >> "$0.calls"; shift; exec runc "$@"');
    write({ runtimes: { wrapped: { path: wrapped, runtimeArgs: ['--mine'] } }, 'default-runtime': 'wrapped' });
    await using other = await new TestDaemon(['--config-file', file]).start();
    const docker = async (...args: string[]) => (await other.docker(args)).stdout.trim();
    await other.docker(['import', subject.archive, IMAGE]);
    expect(await docker('run', '--rm', '--network', 'none', IMAGE, 'echo', 'by default')).toBe('by default');
    expect(new Set(readFileSync(`${wrapped}.calls`, 'utf8').trim().split('\n'))).toEqual(new Set(['--mine']));
    const [runtimes = '', name] = (await docker('info', '-f', '{{json .Runtimes}}|{{.DefaultRuntime}}')).split('|');
    expect(name).toBe('wrapped');
    expect(JSON.parse(runtimes)).toEqual({
      caisson: { path: 'caisson-shim' },
      wrapped: { path: wrapped, runtimeArgs: ['--mine'] },
    });

    write({ runtimes: { second: { path: 'runc' } }, 'default-runtime': 'runc' });
    process.kill(other.pid, 'SIGHUP');
    await vi.waitFor(() => expect(other.logs).toContain('"configuration reloaded"'));
    expect(await docker('run', '--rm', '--network', 'none', '--runtime', 'second', IMAGE, 'echo', 'new')).toBe('new');
    const gone = await other.docker(['run', '--rm', '--runtime', 'wrapped', IMAGE, 'true']);
    expect(gone).toMatchObject({
      code: 125,
      stderr: expect.stringContaining('unknown or invalid runtime name: wrapped'),
    });
  });

  test('have ended before a signal reaches their container: it is stopped', async () => {
    const late = script(
      'late',
      'case "$*" in *" kill "*) kill -9 $(cat "$2/../bundle/init.pid"); sleep 0.3;; esac\nexec runc "$@"',
    );
    await using other = await new TestDaemon(['--add-runtime', `late=${late}`]).start();
    await other.docker(['import', subject.archive, IMAGE]);
    await other.docker([
      'run',
      '-d',
      '--name',
      'late',
      '--network',
      'none',
      '--runtime',
      'late',
      IMAGE,
      'sh',
      '-c',
      LOOP,
    ]);
    expect(await other.docker(['stop', 'late'])).toMatchObject({ code: 0, stderr: '' });
    expect((await other.docker(['inspect', '-f', '{{.State.ExitCode}}', 'late'])).stdout).toBe('137\n');
  });

  test('say why they cannot be used', async () => {
    const rude = script('rude', 'echo "rude: wrong usage" >&2; exit 2');
    const blind = script('blind', '[ "$1" = features ] && exit 1; exec runc "$@"');
    const flags = ['--add-runtime', 'none=/no/such/runtime', '--add-runtime', `rude=${rude}`];
    await using other = await new TestDaemon([...flags, '--add-runtime', `blind=${blind}`]).start();
    await other.docker(['import', subject.archive, IMAGE]);
    const run = (runtime: string, ...args: string[]) =>
      other.docker(['run', '--rm', '--network', 'none', '--runtime', runtime, ...args]);
    expect((await run('none', IMAGE, 'true')).stderr).toContain(
      'unable to start the runtime /no/such/runtime: no such file or directory',
    );
    expect((await run('rude', IMAGE, 'true')).stderr).toContain('OCI runtime create failed: rude: wrong usage');
    // it does not tell that it knows `rro`: the bind is read-only nevertheless
    const bind = `type=bind,src=${subject.dir},dst=/b,readonly`;
    expect(await run('blind', '--mount', bind, IMAGE, 'touch', '/b/f')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('Read-only file system'),
    });
    const all = `${bind},bind-recursive=readonly,bind-propagation=rprivate`;
    expect((await run('blind', '--mount', all, IMAGE, 'true')).stderr).toContain(
      'rro is not supported by runtime "blind"',
    );
  });
});

function readCommand(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}
