/** What a network's options do: how its containers are reached and what they have, seen from outside and inside. */
import { spawnSync } from 'node:child_process';
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

  test('a device has further, link-local addresses', async () => {
    await daemon.dockerOk('network', 'create', 'own');
    await daemon.dockerOk('run', '-d', '--name', 'web', 'busybox', 'sleep', '1000');
    expect(await failing('network', 'connect', '--link-local-ip', '10.1.2.3', 'own', 'web')).toContain(
      'invalid link local IP address: 10.1.2.3',
    );
    await daemon.dockerOk('network', 'connect', '--link-local-ip', '169.254.7.8', 'own', 'web');
    expect(await daemon.dockerOk('exec', 'web', 'ip', '-o', 'addr')).toContain('169.254.7.8/16');
    const format = '{{json .NetworkSettings.Networks.own.IPAMConfig}}';
    expect(await daemon.dockerOk('inspect', '-f', format, 'web')).toBe('{"LinkLocalIPs":["169.254.7.8"]}');
    await daemon.dockerOk('rm', '-f', 'web');
    await daemon.dockerOk('network', 'rm', 'own');
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
