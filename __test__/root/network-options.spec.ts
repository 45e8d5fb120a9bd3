/** What a network's options do: how its containers are reached and what they have, seen from outside and inside. */
import { spawn, spawnSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { oracle } from '../helpers/oracle.ts';
import { missing } from '../helpers/requires.ts';

const [HOST, NEIGHBOUR] = [`can${process.pid}h`, `can${process.pid}n`];
const DEVICE = 'lan0';
const MODE = 'com.docker.network.bridge.gateway_mode_ipv4';

describe.skipIf(missing('root', 'build', 'docker', 'busybox', 'ip'))('network options', () => {
  let daemon: TestDaemon;

  /** From a machine on the host's segment that has a route to the container. */
  const seen = (address: string, port: number): boolean => {
    const line = `printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 1 ${address} ${port}`;
    const { stdout } = spawnSync('ip', ['netns', 'exec', NEIGHBOUR, 'sh', '-c', line], { encoding: 'utf8' });
    return stdout.startsWith('HTTP/1');
  };
  const failing = async (...args: string[]): Promise<string> => {
    const { code, stderr } = await daemon.docker(args);
    expect(code).not.toBe(0);
    return stderr;
  };

  beforeAll(async () => {
    const line = `set -e; ip netns add ${HOST}; ip netns add ${NEIGHBOUR}
      ip -n ${HOST} link add ${DEVICE} type veth peer name lan netns ${NEIGHBOUR}
      ip -n ${HOST} link set lo up; ip -n ${HOST} link set ${DEVICE} up
      ip -n ${HOST} addr add 192.0.2.1/30 dev ${DEVICE}
      ip -n ${NEIGHBOUR} link set lan up; ip -n ${NEIGHBOUR} addr add 192.0.2.2/30 dev lan
      ip -n ${NEIGHBOUR} route add default via 192.0.2.1`;
    expect(spawnSync('sh', ['-c', line], { encoding: 'utf8' }).stderr).toBe('');
    daemon = new TestDaemon();
    daemon.launcher = ['nsenter', `--net=/run/netns/${HOST}`, '--'];
    await daemon.start();
    await daemon.loadBusybox();
  }, 60_000);

  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
    for (const name of [HOST, NEIGHBOUR]) spawnSync('ip', ['netns', 'delete', name]);
  });

  test.each([
    ['nat', [], { published: false, other: false, hostPort: '28080' }],
    ['nat-unprotected', [], { published: true, other: true, hostPort: '28080' }],
    ['routed', [], { published: true, other: false, hostPort: '' }],
    [
      'nat',
      ['-o', `com.docker.network.bridge.trusted_host_interfaces=elsewhere:${DEVICE}`],
      { published: true, other: false, hostPort: '28080' },
    ],
  ])('a container of a network of mode %s %j is reached at its own address', async (mode, options, wanted) => {
    const address = '10.196.1.50';
    await daemon.dockerOk('network', 'create', '--subnet', '10.196.1.0/24', '-o', `${MODE}=${mode}`, ...options, 'own');
    await daemon.dockerOk(
      ...['run', '-d', '--name', 'web', '--network', 'own', '--ip', address, '-p', '0.0.0.0:28080:80', 'busybox'],
      ...['sh', '-c', 'httpd -p 80 -h /etc; exec httpd -f -p 81 -h /etc'],
    );
    const ready = 'until wget -qO /dev/null http://127.0.0.1:81/hostname; do :; done';
    await daemon.dockerOk('exec', 'web', 'sh', '-c', ready);
    const hostPort = await daemon.dockerOk(
      'inspect',
      '-f',
      '{{(index .NetworkSettings.Ports "80/tcp" 0).HostPort}}',
      'web',
    );
    expect({ published: seen(address, 80), other: seen(address, 81), hostPort }).toEqual(wanted);
    expect(seen('192.0.2.1', 28080)).toBe(mode !== 'routed');
    const heard = spawnSync(
      'ip',
      ['netns', 'exec', NEIGHBOUR, 'sh', '-c', `busybox ping -c 1 -W 1 ${address} >/dev/null && echo answered`],
      { encoding: 'utf8' },
    );
    expect(heard.stdout).toBe(mode === 'routed' || mode === 'nat-unprotected' ? 'answered\n' : '');
    await daemon.dockerOk('rm', '-f', 'web');
    await daemon.dockerOk('network', 'rm', 'own');
  });

  test('isolated is for internal networks, where the host has no address', async () => {
    expect(await failing('network', 'create', '-o', `${MODE}=isolated`, 'own')).toContain(
      "gateway mode 'isolated' can only be used for an internal network",
    );
    expect(await failing('network', 'create', '-o', `${MODE}=some`, 'own')).toContain('unknown gateway mode some');
    await daemon.dockerOk(
      ...['network', 'create', '--internal', '--subnet', '10.196.2.0/24', '-o', `${MODE}=isolated`, 'own'],
    );
    const ipam = await daemon.dockerOk('network', 'inspect', '-f', '{{json .IPAM.Config}}', 'own');
    expect(JSON.parse(ipam)).toEqual([{ Subnet: '10.196.2.0/24' }]);
    const inside = await daemon.dockerOk('run', '--rm', '--network', 'own', 'busybox', 'ip', '-o', 'addr');
    expect(inside).toContain('10.196.2.1/24');
    await daemon.dockerOk('network', 'rm', 'own');
  });

  test('options for addresses are kept, as by dockerd, whose own driver of them has none either', async () => {
    await daemon.dockerOk('network', 'create', '--ipam-opt', 'a=b', 'own');
    expect(await daemon.dockerOk('network', 'inspect', '-f', '{{json .IPAM.Options}}', 'own')).toBe('{"a":"b"}');
    await daemon.dockerOk('network', 'rm', 'own');
  });

  test('a device has further, link-local addresses', async () => {
    await daemon.dockerOk('network', 'create', 'own');
    await daemon.dockerOk('run', '-d', '--name', 'web', 'busybox', 'sleep', '1000');
    expect(await failing('network', 'connect', '--link-local-ip', '10.1.2.3', 'own', 'web')).toContain(
      'invalid link-local IP address: 10.1.2.3',
    );
    await daemon.dockerOk('network', 'connect', '--link-local-ip', '169.254.7.8', 'own', 'web');
    expect(await daemon.dockerOk('exec', 'web', 'ip', '-o', 'addr')).toContain('169.254.7.8/16');
    const format = '{{json .NetworkSettings.Networks.own.IPAMConfig}}';
    expect(await daemon.dockerOk('inspect', '-f', format, 'web')).toBe('{"LinkLocalIPs":["169.254.7.8"]}');
    await daemon.dockerOk('rm', '-f', 'web');
    await daemon.dockerOk('network', 'rm', 'own');
  });

  test('traffic goes out with the address that a network names', async () => {
    spawnSync('ip', ['-n', HOST, 'addr', 'add', '198.51.100.7/32', 'dev', 'lo']);
    const mirror = `require('node:net').createServer((socket) => socket.end(socket.remoteAddress)).listen(9000, '0.0.0.0')`;
    const server = spawn('nsenter', [`--net=/run/netns/${NEIGHBOUR}`, process.execPath, '-e', mirror]);
    const asked = async (...options: string[]): Promise<string> => {
      await daemon.dockerOk('network', 'create', ...options, 'own');
      const line = 'until nc -w 2 192.0.2.2 9000; do :; done';
      const heard = await daemon.dockerOk('run', '--rm', '--network', 'own', 'busybox', 'sh', '-c', line);
      await daemon.dockerOk('network', 'rm', 'own');
      return heard;
    };
    expect(await asked()).toBe('192.0.2.1');
    expect(await asked('-o', 'com.docker.network.host_ipv4=198.51.100.7')).toBe('198.51.100.7');
    server.kill();
    expect(await failing('network', 'create', '-o', 'com.docker.network.host_ipv4=::1', 'own')).toContain(
      'failed to parse com.docker.network.host_ipv4 value: ::1',
    );
  });

  test('two addresses make a network when the host has none of them', async () => {
    const inhibit = 'com.docker.network.bridge.inhibit_ipv4=true';
    await daemon.dockerOk('network', 'create', '--internal', '--subnet', '10.196.4.0/31', '-o', inhibit, 'own');
    await daemon.dockerOk('run', '-d', '--name', 'web', '--network', 'own', 'busybox', 'sleep', '1000');
    await daemon.dockerOk('run', '--rm', '--network', 'own', 'busybox', 'ping', '-c', '1', '-W', '3', 'web');
    await daemon.dockerOk('rm', '-f', 'web');
    await daemon.dockerOk('network', 'rm', 'own');
  });

  test.each([
    ['all', false],
    ['lo', false],
    ['default', true],
  ])('a container that switches IPv6 off for %s: has it: %s', async (which, has) => {
    await daemon.dockerOk('network', 'create', '--ipv6', '--subnet', 'fd96:1::/64', 'own');
    const own = ['run', '-d', '--name', 'web', '--network', 'own'];
    await daemon.dockerOk(...own, '--sysctl', `net.ipv6.conf.${which}.disable_ipv6=1`, 'busybox', 'sleep', '1000');
    const address = await daemon.dockerOk(
      ...['inspect', '-f', '{{.NetworkSettings.Networks.own.GlobalIPv6Address}}', 'web'],
    );
    const inside = await daemon.dockerOk('exec', 'web', 'sh', '-c', 'ip -o addr; cat /etc/hosts');
    const named = await daemon.docker(
      ...[['run', '--rm', '--network', 'own', 'busybox', 'ping', '-6', '-c', '1', '-W', '3', 'web']],
    );
    expect([address !== '', inside.includes('fd96:1::'), inside.includes('::1'), named.code === 0]).toEqual(
      Array.from({ length: 4 }, () => has),
    );
    await daemon.dockerOk('rm', '-f', 'web');
    await daemon.dockerOk('network', 'rm', 'own');
  });

  test('settings of devices and of the namespace hold from the first packet', async () => {
    const setting = 'com.docker.network.endpoint.sysctls';
    const show = 'cat /proc/sys/net/ipv4/conf/eth0/forwarding /proc/sys/net/ipv4/conf/eth0/rp_filter';
    const run = ['run', '--rm', '--sysctl', 'net.ipv4.conf.default.rp_filter=2'];
    for (const value of ['0', '1']) {
      const network = `name=bridge,driver-opt=${setting}=net.ipv4.conf.IFNAME.forwarding=${value}`;
      const seen = await daemon.dockerOk(...run, '--network', network, 'busybox', 'sh', '-c', show);
      expect(seen.split('\n')).toEqual([value, '2']);
    }
    for (const [sysctl, message] of [
      ['net.ipv4.conf.eth0.forwarding=1', 'unrecognised network interface sysctl'],
      ['net.ipv4.conf.IFNAME.nonesuch=1', '/proc/sys/net/ipv4/conf/eth0/nonesuch is not a sysctl file'],
    ]) {
      const network = `name=bridge,driver-opt=${setting}=${sysctl}`;
      expect(await failing('run', '--rm', '--network', network, 'busybox')).toContain(message);
    }
    expect(await failing('run', '--rm', '--sysctl', 'net.ipv4.conf.eth0.forwarding=1', 'busybox')).toContain(
      `must be supplied using driver option '${setting}'`,
    );
  });

  test('devices are called as asked, the others by the first free number', async () => {
    const named = (name: string): string => `name=own,driver-opt=com.docker.network.endpoint.ifname=${name}`;
    const devices = async (): Promise<string[]> =>
      (await daemon.dockerOk('exec', 'web', 'sh', '-c', 'cd /sys/class/net; echo *')).split(' ');
    await daemon.dockerOk('network', 'create', 'own');
    await daemon.dockerOk('network', 'create', 'second');
    const sleeper = ['busybox', 'sleep', '1000'];
    await daemon.dockerOk('run', '-d', '--name', 'web', '--network', named('eth1'), '--network', 'second', ...sleeper);
    expect(await devices()).toEqual(['eth0', 'eth1', 'lo']);
    const option = ['--driver-opt', 'com.docker.network.endpoint.ifname=eth1'];
    expect(await failing('network', 'connect', ...option, 'bridge', 'web')).toContain('file exists');
    await daemon.dockerOk('network', 'connect', 'bridge', 'web');
    expect(await devices()).toEqual(['eth0', 'eth1', 'eth2', 'lo']);
    await daemon.dockerOk('network', 'disconnect', 'second', 'web');
    await daemon.dockerOk('restart', '-t', '0', 'web');
    expect(await devices()).toEqual(['eth0', 'eth1', 'lo']);
    await daemon.dockerOk('rm', '-f', 'web');
    await daemon.dockerOk('network', 'rm', 'own', 'second');
  });

  test('one that only holds settings is the pattern of others', async () => {
    const mtu = 'com.docker.network.driver.mtu=1400';
    expect(await failing('network', 'create', '--config-only', '--internal', 'pattern')).toContain(
      'configuration network can only contain network specific fields',
    );
    await daemon.dockerOk(
      ...['network', 'create', '--config-only', '--subnet', '10.196.3.0/24', '--label', 'team=a', '-o', mtu, 'pattern'],
    );
    await daemon.dockerOk('network', 'create', '--config-from', 'pattern', 'own');
    const [shown] = JSON.parse(await daemon.dockerOk('network', 'inspect', 'own')) as object[];
    expect(shown).toMatchObject({
      Driver: 'bridge',
      ConfigFrom: { Network: 'pattern' },
      ConfigOnly: false,
      Labels: { team: 'a' },
      IPAM: { Config: [{ Subnet: '10.196.3.0/24' }] },
    });
    const inside = await daemon.dockerOk('run', '--rm', '--network', 'own', 'busybox', 'ip', '-o', 'link');
    expect(inside).toContain('mtu 1400');
    for (const [args, message] of [
      [['network', 'rm', 'pattern'], 'configuration network "pattern" is in use'],
      [['run', '--rm', '--network', 'pattern', 'busybox'], 'cannot create endpoint on configuration-only network'],
      [['network', 'create', '--config-from', 'bridge', 'x'], 'configuration network "bridge" does not exist'],
      [
        ['network', 'create', '--config-from', 'pattern', '--label', 'a=b', 'x'],
        'user specified configurations are not supported',
      ],
      [['network', 'create', '--config-from', 'pattern', '-o', mtu, 'x'], 'network driver options are not supported'],
    ] as const) {
      expect(await failing(...args)).toContain(message);
    }
    await daemon.dockerOk('container', 'prune', '-f');
    await daemon.dockerOk('network', 'prune', '-f');
    expect(await daemon.dockerOk('network', 'ls', '-q', '-f', 'type=custom', '--format', '{{.Name}}')).toBe('pattern');
    await daemon.dockerOk('network', 'rm', 'pattern');
    expect(await oracle(daemon)).toEqual([]);
  });
});
