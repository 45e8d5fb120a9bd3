/** What `-p` and `-P` can say, with the real docker client, over a daemon in a network namespace of its own. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { run, TestDaemon } from '../helpers/daemon.ts';
import { oracle } from '../helpers/oracle.ts';
import { missing } from '../helpers/requires.ts';

const HOST = `cpb${process.pid}`;
const inside = [`--net=/run/netns/${HOST}`];

describe.skipIf(missing('root', 'build', 'docker', 'busybox', 'nft', 'ip'))('port bindings', () => {
  let daemon: TestDaemon;

  beforeAll(async () => {
    spawnSync('ip', ['netns', 'add', HOST]);
    const setup =
      'ip link set lo up; ip link add lan0 type veth peer name lan1; ip link set lan0 up; ip link set lan1 up';
    const addresses = 'ip addr add 192.0.2.1/24 dev lan0; ip addr add 192.0.2.2/24 dev lan0';
    spawnSync('nsenter', [...inside, 'sh', '-ec', `${setup}; ${addresses}`]);
    daemon = new TestDaemon();
    daemon.launcher = ['nsenter', ...inside, '--'];
    await daemon.start();
    await daemon.loadBusybox({}, { ExposedPorts: { '80/tcp': {}, '90/udp': {} } });
  }, 60_000);

  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
    spawnSync('ip', ['netns', 'delete', HOST]);
  });

  const start = (name: string, ...flags: string[]) =>
    daemon.dockerOk(
      'run',
      '-d',
      '--name',
      name,
      ...flags,
      'busybox',
      'sh',
      '-c',
      'hostname >/tmp/h; exec httpd -f -h /tmp',
    );
  const ports = async (name: string): Promise<string[]> => (await daemon.dockerOk('port', name)).split('\n').sort();
  /** What a web server says from this host's namespace, or from another one. */
  const get = async (address: string, port: number, ns: string[] = inside): Promise<string> => {
    const line = `printf 'GET /h HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 5 ${address} ${port} | tail -1`;
    return (await run('nsenter', [...ns, 'sh', '-c', line])).stdout.trim();
  };
  const refused = async (...flags: string[]): Promise<string> => {
    const { code, stderr } = await daemon.docker(['run', '--rm', ...flags, 'busybox', 'true']);
    expect(code).toBe(125);
    return stderr;
  };

  test('-P publishes what is exposed, at one number for both families', async () => {
    const id = await start('all', '-P', '--expose', '100');
    const shown = await ports('all');
    expect(shown.map((line) => line.split(' -> ')[0])).toEqual([
      '100/tcp',
      '100/tcp',
      '80/tcp',
      '80/tcp',
      '90/udp',
      '90/udp',
    ]);
    for (const proto of ['100/tcp', '80/tcp', '90/udp']) {
      const numbers = shown.filter((line) => line.startsWith(proto)).map((line) => line.split(':').at(-1));
      expect(new Set(numbers).size).toBe(1);
      expect(Number(numbers[0])).toBeGreaterThanOrEqual(32768);
    }
    const http = Number(shown.find((line) => line.startsWith('80/tcp -> 0.0.0.0'))?.split(':')[1]);
    expect(await get('192.0.2.1', http)).toBe(id.slice(0, 12));
    expect(await get('::1', http)).toBe(id.slice(0, 12));
    await daemon.dockerOk('rm', '-f', 'all');
  });

  test('a range gives each container the next free port of it', async () => {
    await start('one', '-p', '7000-7001:80');
    await start('two', '-p', '7000-7001:80');
    expect(await ports('one')).toEqual(['80/tcp -> 0.0.0.0:7000', '80/tcp -> [::]:7000']);
    expect(await ports('two')).toEqual(['80/tcp -> 0.0.0.0:7001', '80/tcp -> [::]:7001']);
    expect(await refused('-p', '7000-7001:80')).toContain('port is already allocated');
    await start('pairs', '-p', '7100-7102:80-82');
    expect((await ports('pairs')).filter((line) => line.includes('0.0.0.0'))).toEqual([
      '80/tcp -> 0.0.0.0:7100',
      '81/tcp -> 0.0.0.0:7101',
      '82/tcp -> 0.0.0.0:7102',
    ]);
    await daemon.dockerOk('rm', '-f', 'one', 'two', 'pairs');
  });

  test('a range of more ports than a process usually has descriptors', async () => {
    const id = await start('many', '-p', '20000-21199:80-1279');
    for (const address of ['127.0.0.1', '::1', '192.0.2.1']) expect(await get(address, 20000)).toBe(id.slice(0, 12));
    expect(await ports('many')).toHaveLength(2 * 1200);
    expect(await refused('-p', '21199:80')).toContain('Bind for 0.0.0.0:21199 failed: port is already allocated');
    await daemon.dockerOk('rm', '-f', 'many');
  });

  test('sctp is published where the kernel has it, and refused by name where not', async ({ skip }) => {
    if (!existsSync('/proc/net/sctp')) {
      expect(await refused('-p', '7250:80/sctp')).toContain('this kernel has no sctp over IPv4');
      skip('this kernel has no SCTP');
    }
    await start('sctp', '-p', '7250:80/sctp');
    expect(await ports('sctp')).toEqual(['80/sctp -> 0.0.0.0:7250', '80/sctp -> [::]:7250']);
    expect(await refused('-p', '7250:80/sctp')).toContain('port is already allocated');
    await daemon.dockerOk('rm', '-f', 'sctp');
  });

  test('each host address has its own', async () => {
    const first = await start('first', '-p', '192.0.2.1:7200:80');
    const second = await start('second', '-p', '192.0.2.2:7200:80');
    expect(await get('192.0.2.1', 7200)).toBe(first.slice(0, 12));
    expect(await get('192.0.2.2', 7200)).toBe(second.slice(0, 12));
    expect(await refused('-p', '192.0.2.1:7200:80')).toContain(
      'Bind for 192.0.2.1:7200 failed: port is already allocated',
    );
    expect(await refused('-p', '192.0.2.99:7200:80')).toContain('192.0.2.99');
    await daemon.dockerOk('rm', '-f', 'first', 'second');
  });

  test('a container reaches its own published port, and that of its neighbour', async () => {
    const id = await start('self', '-p', '7300:80');
    const pid = await daemon.dockerOk('inspect', '-f', '{{.State.Pid}}', 'self');
    await daemon.dockerOk('run', '-d', '--name', 'beside', 'busybox', 'sleep', '1000');
    const beside = await daemon.dockerOk('inspect', '-f', '{{.State.Pid}}', 'beside');
    expect(await get('192.0.2.1', 7300, ['-n', '-t', pid])).toBe(id.slice(0, 12));
    expect(await get('192.0.2.1', 7300, ['-n', '-t', beside])).toBe(id.slice(0, 12));
    await daemon.dockerOk('rm', '-f', 'self', 'beside');
  });

  test('udp is carried from outside and over loopback', async () => {
    await start('udp', '-p', '7400:90/udp');
    const pid = await daemon.dockerOk('inspect', '-f', '{{.State.Pid}}', 'udp');
    const echo = `const s = require('node:dgram').createSocket('udp4', (data, from) => s.send('heard ' + data, from.port, from.address));
      s.bind(90, () => console.log('ready'));`;
    const server = spawn('nsenter', ['-n', '-t', pid, process.execPath, '-e', echo], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    try {
      if (server.stdout) await once(server.stdout, 'data');
      for (const address of ['192.0.2.1', '127.0.0.1']) {
        const ask = `const s = require('node:dgram').createSocket('udp4', (data) => { console.log(String(data)); s.close(); });
          s.send('hi', 7400, '${address}');`;
        const answer = await run('nsenter', [...inside, process.execPath, '-e', ask], { timeoutMs: 10_000 });
        expect(answer.stdout).toBe('heard hi\n');
      }
    } finally {
      server.kill();
      await once(server, 'exit');
    }
    await daemon.dockerOk('rm', '-f', 'udp');
  });

  test('a macvlan network makes containers neighbours of the host’s device', async () => {
    await daemon.dockerOk('network', 'create', '-d', 'macvlan', '-o', 'parent=lan1', '--subnet', '192.0.2.0/24', 'lan');
    await daemon.dockerOk(
      'run',
      '-d',
      '--name',
      'near',
      '--network',
      'lan',
      '--ip',
      '192.0.2.50',
      'busybox',
      'sleep',
      '1000',
    );
    const seen = await daemon.dockerOk(
      'run',
      '--rm',
      '--network',
      'lan',
      'busybox',
      'sh',
      '-c',
      'ping -c1 -W5 near; ip route',
    );
    expect(seen).toContain('PING near (192.0.2.50)');
    expect(seen).toContain('1 packets received');
    expect(seen).toContain('default via 192.0.2.1 dev eth0');
    const ping = () => run('nsenter', [...inside, 'busybox', 'ping', '-c3', '-W1', '192.0.2.50']);
    expect((await ping()).code).toBe(0);
    // it has another MAC now, which the neighbour does not ask for
    await daemon.dockerOk('restart', '-t', '0', 'near');
    expect((await ping()).code).toBe(0);
    const none = await daemon.docker(['network', 'create', '-d', 'macvlan', '-o', 'parent=nope', 'nowhere']);
    expect(none.stderr).toContain("'nope'");
    await daemon.dockerOk('rm', '-f', 'near');
    await daemon.dockerOk('network', 'rm', 'lan');
  });

  test('who has a port is named: a program by pid and command, a container by name', async () => {
    const server: ChildProcess = spawn('nsenter', [...inside, 'busybox', 'httpd', '-f', '-p', '7500'], {
      stdio: 'ignore',
    });
    try {
      let text = '';
      // it listens a moment after it was started
      while (!text.includes('held by'))
        text = (await daemon.docker(['run', '--rm', '-p', '7500:80', 'busybox', 'true'])).stderr;
      expect(text).toContain(`(held by pid ${server.pid}, busybox)`);
    } finally {
      server.kill();
      await once(server, 'exit');
    }
    await start('holder', '-p', '7600:80');
    const text = await daemon.http(
      'POST',
      `/containers/${await daemon.dockerOk('create', '-p', '7600:80', 'busybox')}/start`,
    );
    expect(text.body).toContain('Bind for 0.0.0.0:7600 failed: port is already allocated');
    expect(text.body).toContain('Container holder publishes 7600/tcp: ');
    await daemon.dockerOk('rm', '-f', 'holder');
    expect(await oracle(daemon)).toEqual([]);
  });

  test('the default bridge has IPv6 when it is asked for, and keeps its IPv4', async () => {
    const before = await daemon.dockerOk('network', 'inspect', 'bridge', '-f', '{{(index .IPAM.Config 0).Subnet}}');
    await daemon.kill('SIGTERM');
    await daemon.start({}, [
      '--ipv6',
      '--fixed-cidr-v6',
      'fd77:1::/64',
      '--default-address-pool',
      'base=10.195.0.0/16,size=24',
    ]);
    const id = await start('six', '-p', '7700:80');
    const address = await daemon.dockerOk('inspect', '-f', '{{.NetworkSettings.GlobalIPv6Address}}', 'six');
    expect(address).toBe('fd77:1::2');
    expect(await get(address, 80)).toBe(id.slice(0, 12));
    expect(await daemon.dockerOk('network', 'inspect', 'bridge', '-f', '{{(index .IPAM.Config 0).Subnet}}')).toBe(
      before,
    );
    await daemon.dockerOk('network', 'create', 'pooled');
    const pooled = await daemon.dockerOk('network', 'inspect', 'pooled', '-f', '{{(index .IPAM.Config 0).Subnet}}');
    expect(pooled).toBe('10.195.0.0/24');
    await daemon.dockerOk('rm', '-f', 'six');
    await daemon.dockerOk('network', 'rm', 'pooled');
  });
});
