/** The shim through the built addon: exit codes, logs, streams, execs, and what is left when somebody dies. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadNative } from '../../ts/engine/native/index.ts';
import { packageRoot } from '../../ts/packageRoot.ts';
import { freePort } from '../helpers/registry.ts';
import { missing } from '../helpers/requires.ts';
import { Connection, frames, ShimLab } from '../helpers/shim.ts';

describe.skipIf(missing('root', 'build', 'busybox'))('the shim', () => {
  let lab: ShimLab;

  beforeAll(async () => {
    lab = await ShimLab.open(loadNative());
  });

  afterAll(async () => {
    await lab[Symbol.asyncDispose]();
  });

  test('tells the exit code, keeps it in a file and writes the log', async () => {
    const id = await lab.run(['sh', '-c', 'echo out; echo err >&2; printf tail; exit 7']);
    expect(await lab.exit(id)).toMatchObject({ exitCode: 7, oomKilled: false });
    await lab.event(id, 'shimGone');
    const kept = JSON.parse(readFileSync(join(lab.stateDir(id), 'exit.json'), 'utf8'));
    expect(kept).toEqual(await lab.exit(id));
    expect(lab.text(id)).toBe('out\ntail');
    expect(lab.text(id, 'stderr')).toBe('err\n');
    await lab.destroy(id);
    expect(lab.leftovers(id)).toEqual([]);
  });

  test('the same container again and again', async () => {
    const options = lab.options(['true']);
    for (let round = 0; round < 10; round++) {
      await lab.start(options);
      await lab.event(options.id, 'exit');
      await lab.destroy(options.id);
      lab.events.splice(0);
    }
    expect(lab.leftovers(options.id)).toEqual([]);
  });

  test('a signal is 128 and its number', async () => {
    const options = lab.options(['sleep', '1000']);
    const names = await lab.native.spawnShim(options);
    await lab.native.startContainer(options.id);
    await lab.native.signalProcess({ pid: names.initPid, startTime: names.initStartTime, signal: 9 });
    expect(await lab.exit(options.id)).toMatchObject({ exitCode: 137, signal: 9 });
    await lab.event(options.id, 'shimGone');
    await expect(
      lab.native.signalProcess({ pid: names.initPid, startTime: names.initStartTime, signal: 9 }),
    ).rejects.toMatchObject({ kind: 'NotFound' });
  });

  test('a program that is not there fails the start', async () => {
    const options = lab.options(['/no/such/program']);
    await expect(lab.start(options)).rejects.toThrow(/\/no\/such\/program/);
    await lab.destroy(options.id);
    expect(lab.leftovers(options.id)).toEqual([]);
  });

  test('a container that cannot be built leaves nothing', async () => {
    const options = lab.options(['true']);
    options.rootfs = { path: join(lab.dir, 'nowhere') };
    await expect(lab.native.spawnShim(options)).rejects.toThrow(/nowhere/);
    expect(lab.leftovers(options.id)).toEqual([]);
  });

  test('sees no signal ignored or blocked and none of our descriptors', async () => {
    const id = await lab.run(['sh', '-c', 'grep -E "^(SigBlk|SigIgn)" /proc/self/status; ls /proc/self/fd | wc -l']);
    await lab.exit(id);
    // 0, 1, 2 and the directory that ls reads
    expect(lab.text(id)).toBe(`SigBlk:\t${'0'.repeat(16)}\nSigIgn:\t${'0'.repeat(16)}\n4\n`);
  });

  test('attach before start gets everything, in frames', async () => {
    const options = lab.options(['sh', '-c', 'echo out; echo err >&2']);
    await lab.native.spawnShim(options);
    const client = await Connection.open(lab.native, lab.dir);
    await lab.native.attach(options.id, client.stream());
    await lab.native.startContainer(options.id);
    expect(frames(await client.rest())).toEqual({ stdout: 'out\n', stderr: 'err\n' });
  });

  test('stdin: early bytes, later ones, and its end', async () => {
    const options = lab.options(['sh', '-c', 'cat; echo done'], { openStdin: true, stdinOnce: true });
    await lab.native.spawnShim(options);
    const client = await Connection.open(lab.native, lab.dir);
    await lab.native.attach(options.id, client.stream({ stdin: true, early: Buffer.from('early ') }));
    await lab.native.startContainer(options.id);
    client.socket.end('late\n');
    expect(frames(await client.rest()).stdout).toBe('early late\ndone\n');
    expect(await lab.exit(options.id)).toMatchObject({ exitCode: 0 });
  });

  test('a slow client loses nothing', async () => {
    const options = lab.options(['sh', '-c', 'seq 1 400000']);
    await lab.native.spawnShim(options);
    const client = await Connection.open(lab.native, lab.dir);
    client.socket.pause();
    await lab.native.attach(options.id, client.stream());
    await lab.native.startContainer(options.id);
    client.socket.resume();
    const { stdout } = frames(await client.rest());
    const numbers = stdout.trimEnd().split('\n');
    expect(numbers.length).toBe(400_000);
    expect(numbers.every((line, index) => line === String(index + 1))).toBe(true);
    expect(lab.text(options.id)).toBe(stdout);
  });

  test.each([false, true])('a terminal: size, raw output, detach keys, and on it goes; --init: %j', async (init) => {
    const options = lab.options(['sh', '-c', 'read line; echo "got $line"; stty size; read line; exit 3'], {
      tty: true,
      openStdin: true,
    });
    options.stdio.consoleSize = { width: 100, height: 40 };
    options.init = init;
    await lab.native.spawnShim(options);
    const first = await Connection.open(lab.native, lab.dir);
    await lab.native.attach(options.id, first.stream({ stdin: true, raw: true }));
    await lab.native.startContainer(options.id);
    first.socket.write('hello\n');
    await first.until((received) => received.includes('got hello\r\n40 100\r\n'));
    first.socket.write(Buffer.from([16, 17]));
    await lab.event(options.id, 'detached');
    await first.rest();
    const second = await Connection.open(lab.native, lab.dir);
    await lab.native.attach(options.id, second.stream({ stdin: true, raw: true }));
    await lab.native.resize(options.id, { width: 132, height: 50 });
    second.socket.write('\n');
    await second.rest();
    expect(await lab.exit(options.id)).toMatchObject({ exitCode: 3 });
  });

  test('exec: output, input, exit code, terminal, and a program that is not there', async () => {
    const id = await lab.run(['sleep', '1000']);
    const process = { ...lab.options([]).spec.process };
    const exec = async (args: string[], more: { tty?: boolean; openStdin?: boolean } = {}) => {
      const client = await Connection.open(lab.native, lab.dir);
      const execId = `${args.length}`.padStart(64, String(lab.events.length % 10));
      const { pid } = await lab.native.exec(id, {
        execId,
        process: { ...process, args, terminal: more.tty ?? false },
        user: { user: '', additionalGroups: [] },
        privileged: false,
        tty: more.tty ?? false,
        openStdin: more.openStdin ?? false,
        client: client.stream({ stdin: more.openStdin ?? false, raw: more.tty ?? false }),
      });
      expect(pid).toBeGreaterThan(0);
      return { client, execId };
    };
    const plain = await exec(['sh', '-c', 'cat; echo err >&2; exit 5'], { openStdin: true });
    plain.client.socket.end('in\n');
    expect(frames(await plain.client.rest())).toEqual({ stdout: 'in\n', stderr: 'err\n' });
    expect((await lab.event(id, 'execExit', (event) => event.execId === plain.execId)).exitCode).toBe(5);
    const tty = await exec(['sh', '-c', 'tty && echo yes', 'x'], { tty: true, openStdin: true });
    expect((await tty.client.rest()).toString()).toMatch(/^\/dev\/pts\/\d+\r\nyes\r\n$/);
    await expect(exec(['/nowhere'])).rejects.toThrow(/nowhere/);
    await lab.destroy(id);
    expect(lab.leftovers(id)).toEqual([]);
  });

  test('a published port is reached over loopback', async () => {
    const options = lab.options(['sh', '-c', 'echo served > /tmp/index.html; exec httpd -f -p 80 -h /tmp']);
    // The host's own namespace stands in for a bridge: what is tested is the way through the shim.
    options.spec.linux.namespaces = options.spec.linux.namespaces.filter(({ type }) => type !== 'network');
    const reserved = await lab.native.reservePorts([{ proto: 'tcp', hostIp: '127.0.0.1', hostPort: 0 }]);
    const [fd = -1] = reserved.fds;
    const [hostPort = 0] = reserved.hostPorts;
    const inside = await freePort();
    options.spec.process.args[2] = `echo served > /tmp/index.html; exec httpd -f -p 127.0.0.1:${inside} -h /tmp`;
    const port = { fd, hostPort, proto: 'tcp' as const, hostIp: '127.0.0.1' };
    options.ports = [{ ...port, containerIp: '127.0.0.1', containerPort: inside }];
    await lab.start(options);
    const url = `http://127.0.0.1:${hostPort}/`;
    for (;;) {
      // Until httpd listens, the connection is closed without an answer.
      const answer = await fetch(url).then(
        (response) => response.text(),
        () => undefined,
      );
      if (answer === undefined) continue;
      expect(answer).toBe('served\n');
      break;
    }
    await lab.destroy(options.id);
    await expect(fetch(url)).rejects.toThrow();
  });

  test.skipIf(missing('cgroup1'))('says that memory was short', async () => {
    const options = lab.options(['sh', '-c', 'x=x; while :; do x=$x$x; done']);
    options.spec.linux.resources = { memory: { limit: 16 << 20, swap: 16 << 20 } };
    await lab.start(options);
    expect(await lab.exit(options.id)).toMatchObject({ exitCode: 137, oomKilled: true });
    await lab.event(options.id, 'oom');
  });

  test('rotation keeps the last files', async () => {
    const id = await lab.run(['seq', '1', '20000'], {}, { maxSizeBytes: 100_000, maxFiles: 2 });
    await lab.exit(id);
    const path = lab.logPath(id);
    const records = [`${path}.1`, path].flatMap((file) => readFileSync(file, 'utf8').trimEnd().split('\n'));
    const numbers = records.map((line) => Number(JSON.parse(line).log));
    expect(numbers.at(-1)).toBe(20_000);
    expect(numbers).toEqual(numbers.map((_, index) => 20_001 - numbers.length + index));
    expect(existsSync(`${path}.2`)).toBe(false);
  });

  /** Runs steps in another Node and kills it: what a daemon does when it is SIGKILLed. */
  async function killedDaemon(id: string, started: boolean): Promise<{ initPid: number }> {
    const options = { ...lab.options([]), id, stateDir: lab.stateDir(id) };
    options.spec.process.args = ['sh', '-c', 'while :; do echo tick; sleep 0.05; done'];
    options.spec.linux.cgroupsPath = lab.cgroupOf(id);
    options.log.path = lab.logPath(id);
    const script = `
      import { loadNative } from '${packageRoot}/ts/engine/native/index.ts';
      const native = loadNative();
      await native.startRuntime({ shimPath: '${packageRoot}/build/caisson-shim', onEvent: () => {} });
      const names = await native.spawnShim(${JSON.stringify(options)});
      ${started ? `await native.startContainer('${id}');` : ''}
      console.log(JSON.stringify(names));
      setInterval(() => {}, 1000);`;
    const daemon = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = (await once(daemon.stdout, 'data')) as [Buffer];
    daemon.kill('SIGKILL');
    await once(daemon, 'close');
    return JSON.parse(line.toString());
  }

  test('a daemon that dies before start leaves nothing', async () => {
    const { id } = lab.options([]);
    const { initPid } = await killedDaemon(id, false);
    // The shim undoes it by itself; its end is the end of its cgroup.
    while (lab.leftovers(id).length > 0) await new Promise((resolve) => setImmediate(resolve));
    expect(existsSync(`/proc/${initPid}`)).toBe(false);
  });

  test('a daemon that dies after start leaves the container running, and the next one adopts it', async () => {
    const { id } = lab.options([]);
    const { initPid } = await killedDaemon(id, true);
    const state = await lab.native.adoptShim({ id, stateDir: lab.stateDir(id) });
    expect(state).toMatchObject({ status: 'running', container: { initPid }, execs: [] });
    const client = await Connection.open(lab.native, lab.dir);
    await lab.native.attach(id, client.stream());
    await client.until((received) => received.includes('tick\n'));
    await lab.native.cgroupKill(lab.cgroupOf(id), 9);
    expect(await lab.exit(id)).toMatchObject({ exitCode: 137 });
    await client.rest();
    await lab.event(id, 'shimGone');
    expect(await lab.native.adoptShim({ id, stateDir: lab.stateDir(id) })).toMatchObject({
      status: 'exited',
      exit: { exitCode: 137 },
    });
    await lab.destroy(id);
    expect(lab.leftovers(id)).toEqual([]);
  });

  test('a shim that is killed is reported, and destroy ends its container', async () => {
    const options = lab.options(['sleep', '1000']);
    const names = await lab.native.spawnShim(options);
    await lab.native.startContainer(options.id);
    process.kill(names.shimPid, 'SIGKILL');
    await lab.event(options.id, 'shimGone');
    expect(await lab.native.adoptShim({ id: options.id, stateDir: lab.stateDir(options.id) })).toMatchObject({
      status: 'lost',
    });
    await lab.destroy(options.id);
    expect(lab.leftovers(options.id)).toEqual([]);
  });
});
