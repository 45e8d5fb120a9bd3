/** The daemon's flags about networks, each by its effect as a container or a neighbour of the host sees it. */
import { spawnSync } from 'node:child_process';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { oracle } from '../helpers/oracle.ts';
import { missing } from '../helpers/requires.ts';

const [HOST, NEIGHBOUR] = [`caf${process.pid}h`, `caf${process.pid}n`];
const SERVE = 'httpd -p 81 -h /etc; exec httpd -f -p 80 -h /etc';

describe.skipIf(missing('root', 'build', 'docker', 'busybox', 'ip', 'nft'))('flags of the daemon', () => {
  let daemon: TestDaemon;

  const inside = (namespace: string, line: string): string =>
    spawnSync('ip', ['netns', 'exec', namespace, 'sh', '-c', line], { encoding: 'utf8' }).stdout.trim();
  const answers = (from: string, address: string, port: number): boolean =>
    inside(from, `printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 1 ${address} ${port}`).startsWith('HTTP/1');
  const start = async (...flags: string[]): Promise<void> => {
    daemon = new TestDaemon(flags);
    daemon.launcher = ['nsenter', `--net=/run/netns/${HOST}`, '--'];
    await daemon.start();
    await daemon.loadBusybox();
  };
  const run = (...args: string[]): Promise<string> => daemon.dockerOk('run', '--rm', ...args);
  const serve = async (...flags: string[]): Promise<string> => {
    await daemon.dockerOk('run', '-d', '--name', 'web', ...flags, 'busybox', 'sh', '-c', SERVE);
    await daemon.dockerOk('exec', 'web', 'sh', '-c', 'until wget -qO /dev/null http://127.0.0.1/hostname; do :; done');
    return daemon.dockerOk('inspect', '-f', '{{.NetworkSettings.IPAddress}}', 'web');
  };

  beforeEach(() => {
    const line = `set -e; ip netns add ${HOST}; ip netns add ${NEIGHBOUR}
      ip -n ${HOST} link add lan0 type veth peer name lan netns ${NEIGHBOUR}
      ip -n ${HOST} link set lo up; ip -n ${HOST} link set lan0 up; ip -n ${HOST} addr add 192.0.2.1/30 dev lan0
      ip -n ${NEIGHBOUR} link set lan up; ip -n ${NEIGHBOUR} addr add 192.0.2.2/30 dev lan
      ip -n ${NEIGHBOUR} route add default via 192.0.2.1`;
    expect(spawnSync('sh', ['-c', line], { encoding: 'utf8' }).stderr).toBe('');
  });

  afterEach(async () => {
    await daemon.removeContainers();
    expect(await oracle(daemon)).toEqual([]);
    await daemon[Symbol.asyncDispose]();
    for (const name of [HOST, NEIGHBOUR]) spawnSync('ip', ['netns', 'delete', name]);
  });

  test('--bridge none: who asks for the default network has loopback alone', async () => {
    await start('--bridge', 'none');
    expect(await run('busybox', 'sh', '-c', 'cd /sys/class/net; echo *')).toBe('lo');
    expect(await run('-p', '8080:80', '--network', 'bridge', 'busybox', 'sh', '-c', 'cd /sys/class/net; echo *')).toBe(
      'lo',
    );
    await daemon.dockerOk('network', 'create', 'own');
    expect(await run('--network', 'own', 'busybox', 'sh', '-c', 'cd /sys/class/net; echo *')).toBe('eth0 lo');
    const tables = (): string[] => inside(HOST, 'nft list tables').split('\n');
    expect(tables()).toEqual([expect.stringMatching(/^table inet caisson_none_[0-9a-f]{8}$/)]);
    // the next one has a bridge, and leaves no table of the one before
    await daemon.kill('SIGTERM');
    await daemon.start({}, ['--bridge', '']);
    expect(tables()).toEqual(['table inet caisson']);
    expect(await run('busybox', 'sh', '-c', 'cd /sys/class/net; echo *')).toBe('eth0 lo');
  });

  test('addresses of the default bridge', async () => {
    await start(
      '--ipv6',
      '--fixed-cidr',
      '10.195.1.0/24',
      '--bip6',
      'fd95:1::1/64',
      '--fixed-cidr-v6',
      'fd95:1::8:0/112',
    );
    const hosts = await run('--add-host', 'gate:host-gateway', 'busybox', 'grep', 'gate', '/etc/hosts');
    expect(hosts.split('\n')).toEqual(['10.195.1.1\tgate', 'fd95:1::1\tgate']);
    expect(await run('busybox', 'ip', '-o', 'addr')).toMatch(/10\.195\.1\.\d+\/24(.|\n)*fd95:1::8:[0-9a-f]+\/64/);
    await daemon.kill('SIGTERM');
    // another part: the bridge moves
    await daemon.start({}, []);
    expect(await daemon.dockerOk('network', 'inspect', '-f', '{{(index .IPAM.Config 0).Subnet}}', 'bridge')).toBe(
      '10.195.1.0/24',
    );
  });

  test('--bridge: that of the user says the subnet, and keeps what it has', async () => {
    inside(HOST, 'ip link add mine type bridge stp_state 1; ip addr add 10.195.4.9/24 dev mine; ip link set mine up');
    inside(HOST, 'ip -6 addr add fd95:4::9/64 dev mine; ip link add other type bridge stp_state 1');
    await start('--bridge', 'mine', '--ipv6', '--fixed-cidr', '10.195.4.128/25');
    const seen = await run('busybox', 'sh', '-c', 'ip -o addr show dev eth0; ip route; ip -6 route');
    expect(seen).toMatch(/inet 10\.195\.4\.(12[89]|1[3-9]\d|2\d\d)\/24/);
    expect(seen).toContain('default via 10.195.4.9 ');
    expect(seen).toContain('default via fd95:4::9 ');
    // so do those that networks name
    await daemon.dockerOk('network', 'create', '-o', 'com.docker.network.bridge.name=other', 'own');
    await daemon.dockerOk('network', 'create', '-o', 'com.docker.network.bridge.name=ours', 'ours');
    await daemon.dockerOk('network', 'rm', 'own', 'ours');
    const links = inside(HOST, 'ip -d link show type bridge');
    expect(links.match(/(mine|other|ours)[:]|stp_state \d/g)).toEqual([
      'mine:',
      'stp_state 1',
      'other:',
      'stp_state 1',
    ]);
    await daemon.kill('SIGTERM');
    await expect(daemon.start({}, ['--bridge', 'nope'])).rejects.toThrow('there is no bridge nope');
    await daemon.start();
  });

  test('a default bridge with containers on it stays as it is', async () => {
    await start('--bip', '10.195.5.1/24');
    const address = await serve();
    const subnet = (): Promise<string> =>
      daemon.dockerOk('network', 'inspect', '-f', '{{(index .IPAM.Config 0).Subnet}}', 'bridge');
    await daemon.kill('SIGTERM');
    await daemon.start({}, ['--bip', '10.195.6.1/24']);
    expect(answers(HOST, address, 80)).toBe(true);
    expect(await subnet()).toBe('10.195.5.0/24');
    expect(daemon.logs).toContain('containers run on the default bridge');
    await daemon.removeContainers();
    await daemon.kill('SIGTERM');
    await daemon.start({}, ['--bip', '10.195.6.1/24']);
    expect(await subnet()).toBe('10.195.6.0/24');
  });

  test('--default-gateway: another machine leads out', async () => {
    await start('--bip', '10.195.2.1/24', '--default-gateway', '10.195.2.77');
    expect(await run('busybox', 'ip', 'route')).toContain('default via 10.195.2.77');
  });

  test('--default-network-opt: for what a request does not say', async () => {
    const mtu = 'com.docker.network.driver.mtu';
    const [v4, v6] = ['com.docker.network.enable_ipv4=false', 'com.docker.network.enable_ipv6=true'];
    await start(
      ...[`bridge=${mtu}=1234`, `bridge=${v4}`, `bridge=${v6}`].flatMap((one) => ['--default-network-opt', one]),
    );
    const made = async (...flags: string[]): Promise<unknown[]> => {
      await daemon.dockerOk('network', 'create', ...flags, 'own');
      const format = '[{{.EnableIPv4}},{{.EnableIPv6}},{{json .Options}}]';
      const shown = JSON.parse(await daemon.dockerOk('network', 'inspect', '-f', format, 'own')) as unknown[];
      await daemon.dockerOk('network', 'rm', 'own');
      return shown;
    };
    expect(await made()).toEqual([
      false,
      true,
      { [mtu]: '1234', 'com.docker.network.enable_ipv4': 'false', 'com.docker.network.enable_ipv6': 'true' },
    ]);
    expect(await made('--ipv4=true', '--ipv6=false', '-o', `${mtu}=1400`)).toEqual([true, false, { [mtu]: '1400' }]);
  });

  test('--allow-direct-routing: published ports at the containers\u2019 own addresses', async () => {
    await start('--allow-direct-routing');
    const address = await serve('-p', '8080:80');
    expect(answers(NEIGHBOUR, '192.0.2.1', 8080)).toBe(true);
    expect(answers(NEIGHBOUR, address, 80)).toBe(true);
    expect(answers(NEIGHBOUR, address, 81)).toBe(false);
  });

  test('--ip, --ip-masq=false, --ip-forward-no-drop', async () => {
    await start('--ip', '127.0.0.1', '--ip-masq=false', '--ip-forward-no-drop');
    expect(inside(HOST, 'cat /proc/sys/net/ipv4/ip_forward')).toBe('1');
    expect(inside(HOST, 'nft list ruleset')).not.toContain('chain foreign');
    const address = await serve('-p', '8080:80');
    expect(answers(NEIGHBOUR, '192.0.2.1', 8080)).toBe(false);
    expect(answers(HOST, '127.0.0.1', 8080)).toBe(true);
    // without a route back nothing returns: the container's own address has left
    const captured = inside(NEIGHBOUR, 'ip route del default; echo gone');
    expect(captured).toBe('gone');
    expect((await daemon.docker(['exec', 'web', 'ping', '-c', '1', '-W', '1', '192.0.2.2'])).code).toBe(1);
    inside(NEIGHBOUR, `ip route add ${address}/32 via 192.0.2.1`);
    expect((await daemon.docker(['exec', 'web', 'ping', '-c', '1', '-W', '3', '192.0.2.2'])).code).toBe(0);
  });

  test('--iptables=false: no table, and ports by sockets alone', async () => {
    await start('--iptables=false');
    await serve('-p', '8080:80');
    expect(inside(HOST, 'nft list tables')).toBe('');
    expect([answers(NEIGHBOUR, '192.0.2.1', 8080), answers(HOST, '127.0.0.1', 8080)]).toEqual([true, true]);
  });
});
