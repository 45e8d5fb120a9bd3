/**
 * The truth table of published ports: who reaches a container from where, in both families, over a real daemon in a
 * network namespace of its own. The table is printed; every cell of every situation must be as it says.
 * `CAISSON_PEER=.cache/peers/root/usr/sbin/dockerd` prints dockerd's tables as well, with the cells that differ.
 */
import { spawnSync } from 'node:child_process';
import { dirname, join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { run, TestDaemon } from '../helpers/daemon.ts';
import { busyboxTar } from '../helpers/image.ts';
import { missing } from '../helpers/requires.ts';

const PEER = process.env['CAISSON_PEER'];
const ENGINES = ['caisson', ...(PEER === undefined ? [] : ['dockerd'])];

/** Runs a line of shell in a namespace; a failure is an error. */
function shell(namespace: string, line: string): string {
  const { status, stdout, stderr } = spawnSync('nsenter', [`--net=/run/netns/${namespace}`, 'sh', '-ec', line], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`${namespace}: ${line}: ${stderr}`);
  return stdout;
}

interface Names {
  host: string;
  otherHost: string;
  loopback: string;
  target: string;
  internal: string;
}

const FAMILIES: Record<string, Names> = {
  IPv4: {
    host: '192.0.2.1',
    otherHost: '203.0.113.1',
    loopback: '127.0.0.1',
    target: '10.197.1.50',
    internal: '10.197.3.50',
  },
  IPv6: {
    host: '2001:db8:1::1',
    otherHost: '2001:db8:9::1',
    loopback: '::1',
    target: 'fd97:1::50',
    internal: 'fd97:3::50',
  },
};

const SOURCES = ['neighbour', 'routed', 'host', 'other bridge'] as const;
type Source = (typeof SOURCES)[number];

/** Row, column, address and port, and who of the four gets through. */
type Cell = [row: string, column: string, address: string, port: number, open: readonly Source[]];

function cells(names: Names, published: boolean): Cell[] {
  const all = published ? SOURCES : (['host'] as const);
  const { host, otherHost, loopback, target, internal } = names;
  return [
    ['not published', 'container address', target, 81, ['host']],
    ['not published', 'host address', host, 81, []],
    ['-p loopback:P', 'container address', target, 80, ['host']],
    ['-p loopback:P', 'host address', host, 8082, []],
    ['-p loopback:P', 'loopback', loopback, 8082, ['host']],
    ['-p P', 'host address', host, 8080, all],
    ['-p P', 'other host address', otherHost, 8080, all],
    ['-p P', 'loopback', loopback, 8080, ['host']],
    ['-p IP:P', 'host address', host, 8081, all],
    ['-p IP:P', 'other host address', otherHost, 8081, []],
    ['internal', 'container address', internal, 80, ['host']],
  ];
}

/** Tries all addresses at once; true where a web server answers. */
const CLIENT = `
  const { connect } = require('node:net');
  const ask = ([host, port]) => new Promise((resolve) => {
    const socket = connect({ host, port });
    const end = (open) => { socket.destroy(); resolve(open); };
    const timer = setTimeout(() => end(false), 1600);
    socket.on('connect', () => socket.write('GET / HTTP/1.0\\r\\n\\r\\n'));
    socket.on('data', (data) => { clearTimeout(timer); end(String(data).startsWith('HTTP/1')); });
    socket.on('error', () => { clearTimeout(timer); end(false); });
    socket.on('close', () => { clearTimeout(timer); resolve(false); });
  });
  Promise.all(JSON.parse(process.argv[1]).map(ask)).then((all) => console.log(JSON.stringify(all)));`;

/** /sys shows the devices of the namespace that it was mounted in: dockerd looks there for its bridges' ports. */
const OWN_SYS = `mkdir -p $0; mount --rbind /sys/fs/cgroup $0; mount -t sysfs sysfs /sys; mount --rbind $0 /sys/fs/cgroup
  umount -l $0; exec "$@"`;

const lacking = missing('root', 'build', 'docker', 'busybox', 'nft', 'ip');

describe.skipIf(lacking).each(ENGINES)('published ports of %s', (engine) => {
  const isPeer = engine === 'dockerd';
  const TAG = `cap${process.pid}${isPeer ? 'd' : 'c'}`;
  const [HOST, NEIGHBOUR, REMOTE] = ['host', 'near', 'far'].map((name) => `${TAG}${name}`) as [string, string, string];
  let daemon: TestDaemon;
  let otherPid = '';
  const peerEnv: { PATH?: string } = {};

  beforeAll(async () => {
    // where it is a module, nothing else would load it
    spawnSync('sh', ['-c', '"$(cat /proc/sys/kernel/modprobe)" br_netfilter']);
    for (const name of [HOST, NEIGHBOUR, REMOTE]) spawnSync('ip', ['netns', 'add', name]);
    const v6 = (device: string, address: string) => `ip addr add ${address} dev ${device} nodad`;
    shell(
      HOST,
      `ip link set lo up; ip link add lan0 type veth peer name lan1; ip link set lan1 netns ${NEIGHBOUR}
       ip link set lan0 up; ip addr add 192.0.2.1/24 dev lan0; ip addr add 203.0.113.1/32 dev lan0
       ${v6('lan0', '2001:db8:1::1/64')}; ${v6('lan0', '2001:db8:9::1/128')}
       ip route add 198.51.100.0/24 via 192.0.2.2; ip -6 route add 2001:db8:2::/64 via 2001:db8:1::2`,
    );
    shell(
      NEIGHBOUR,
      `ip link add wan0 type veth peer name wan1; ip link set wan1 netns ${REMOTE}
       ip link set lan1 up; ip addr add 192.0.2.2/24 dev lan1; ${v6('lan1', '2001:db8:1::2/64')}
       ip link set wan0 up; ip addr add 198.51.100.1/24 dev wan0; ${v6('wan0', '2001:db8:2::1/64')}
       echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
       ip route add default via 192.0.2.1; ip -6 route add default via 2001:db8:1::1`,
    );
    shell(
      REMOTE,
      `ip link set wan1 up; ip addr add 198.51.100.2/24 dev wan1; ${v6('wan1', '2001:db8:2::2/64')}
       ip route add default via 198.51.100.1; ip -6 route add default via 2001:db8:2::1`,
    );
    daemon = new TestDaemon();
    daemon.launcher = ['nsenter', `--net=/run/netns/${HOST}`, '--'];
    if (isPeer) {
      daemon.peer = resolve(PEER ?? '');
      daemon.launcher.push('unshare', '--mount', 'sh', '-ec', OWN_SYS, join(daemon.dir, 'cgroup'));
      peerEnv.PATH = `${dirname(daemon.peer)}:${join(dirname(daemon.peer), '../bin')}:${process.env['PATH']}`;
    }
    await daemon.start(peerEnv);
    // dockerd with its own image store loads no OCI archives
    if (isPeer) await daemon.docker(['import', '-', 'busybox'], { input: await busyboxTar() });
    else await daemon.loadBusybox();
    const network = (name: string, number: number, ...more: string[]) =>
      daemon.dockerOk(
        ...['network', 'create', '--ipv6', '--subnet', `10.197.${number}.0/24`, '--subnet', `fd97:${number}::/64`],
        ...[...more, name],
      );
    await network('target', 1);
    await network('other', 2);
    await network('inside', 3, '--internal');
    const serve = ['busybox', 'sh', '-c', 'httpd -p 81 -h /tmp; exec httpd -f -p 80 -h /tmp'];
    await daemon.dockerOk(
      ...['run', '-d', '--network', 'target', '--ip', '10.197.1.50', '--ip6', 'fd97:1::50'],
      ...['-p', '8080:80', '-p', '192.0.2.1:8081:80', '-p', '[2001:db8:1::1]:8081:80'],
      ...['-p', '127.0.0.1:8082:80', '-p', '[::1]:8082:80', ...serve],
    );
    await daemon.dockerOk('run', '-d', '--network', 'inside', '--ip', '10.197.3.50', '--ip6', 'fd97:3::50', ...serve);
    const other = await daemon.dockerOk('run', '-d', '--network', 'other', 'busybox', 'sleep', '1000');
    otherPid = await daemon.dockerOk('inspect', '-f', '{{.State.Pid}}', other);
  });

  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
    for (const name of [HOST, NEIGHBOUR, REMOTE]) spawnSync('ip', ['netns', 'delete', name]);
  });

  /** What each source sees of each cell, and what it should. */
  async function look(published: boolean): Promise<{ table: string; wrong: string[] }> {
    const wanted = Object.entries(FAMILIES).flatMap(([family, names]) =>
      cells(names, published).map((cell) => ({ family, cell })),
    );
    const targets = JSON.stringify(wanted.map(({ cell: [, , address, port] }) => [address, port]));
    const enter: Record<Source, string[]> = {
      neighbour: [`--net=/run/netns/${NEIGHBOUR}`],
      routed: [`--net=/run/netns/${REMOTE}`],
      host: [`--net=/run/netns/${HOST}`],
      'other bridge': ['-n', '-t', otherPid],
    };
    const seen = await Promise.all(
      SOURCES.map(async (source) => {
        const { stdout, stderr } = await run('nsenter', [...enter[source], process.execPath, '-e', CLIENT, targets]);
        if (stdout === '') throw new Error(`${source}: ${stderr}`);
        return JSON.parse(stdout) as boolean[];
      }),
    );
    const wrong: string[] = [];
    const lines = wanted.map(({ family, cell: [row, column, , , open] }, at) => {
      const shown = SOURCES.map((source, which) => {
        const is = seen[which]?.[at] ?? false;
        if (is !== open.includes(source))
          wrong.push(`${family}, ${row}, ${column}, from ${source}: ${is ? 'open' : 'closed'}`);
        return (is ? 'open' : 'closed').padEnd(13);
      });
      return `${family}  ${row.padEnd(15)}${column.padEnd(20)}${shown.join('')}`;
    });
    const head = `${''.padEnd(41)}${SOURCES.map((source) => source.padEnd(13)).join('')}`;
    return { table: [head, ...lines].join('\n'), wrong };
  }

  /** The table as it must be, printed with the name of the situation, with bridged packets in the firewall and without. */
  async function check(situation: string, published = true): Promise<void> {
    for (const bridged of [0, 1]) {
      shell(
        HOST,
        `for f in /proc/sys/net/bridge/bridge-nf-call-ip*tables; do [ ! -e $f ] || echo ${bridged} > $f; done`,
      );
      const { table, wrong } = isPeer ? await look(published) : await settled(published);
      process.stdout.write(`\n${engine}: ${situation}, bridge-nf-call-iptables ${bridged}\n${table}\n`);
      if (isPeer) process.stdout.write(`not as it should be:\n${wrong.map((cell) => `  ${cell}\n`).join('')}`);
      else expect(wrong).toEqual([]);
    }
  }

  /** The daemon repairs by itself, and a slow machine answers late: nothing may be open meanwhile that must be closed. */
  async function settled(published: boolean): ReturnType<typeof look> {
    const deadline = Date.now() + 60_000;
    for (;;) {
      const seen = await look(published);
      expect(seen.wrong.filter((cell) => cell.endsWith(': open'))).toEqual([]);
      if (seen.wrong.length === 0 || Date.now() > deadline) return seen;
    }
  }

  test('fresh', () => check('fresh'));

  test.skipIf(isPeer)('behind a chain of the host’s own, which comes first', async () => {
    shell(
      HOST,
      "nft 'table inet own { chain first { type filter hook forward priority -200; ct status dnat drop; }; }'",
    );
    await check('dropped by a chain with a priority below ours', false);
    shell(HOST, 'nft delete table inet own');
  });

  test('while the daemon is gone, and under the next', async () => {
    await daemon.kill('SIGKILL');
    // the container answers by its own; what comes over loopback by its shim
    await check('after SIGKILL, before the restart');
    await daemon.start(peerEnv);
    await check('after the restart');
  });

  test('after a foreign flush', async () => {
    shell(HOST, 'nft flush ruleset');
    await check('after nft flush ruleset');
    if (!isPeer) return;
    await daemon.kill('SIGTERM');
    await daemon.start(peerEnv);
  });

  test('beside chains that drop: open by default, the host’s own business when asked for', async () => {
    const admin = `nft -f - <<'END'
      table inet admin {
        chain input { type filter hook input priority filter; policy drop;
          iifname lo accept; ct state established,related accept; meta l4proto icmpv6 accept; }
        chain forward { type filter hook forward priority filter; policy drop; }
      }
END`;
    shell(HOST, admin);
    await check('host drops input and forward, firewall open');
    if (isPeer) return;
    const reach = async (): Promise<string> => {
      const { stdout } = await daemon.caisson(['ps', '--format', '{{.ReachableFrom}}']);
      return [...new Set(stdout.match(/LAN|loopback|blocked by host firewall/g))].sort().join();
    };
    expect(await reach()).toMatch(/^LAN(,loopback)?$/);
    await daemon.kill('SIGTERM');
    await daemon.start({}, ['--firewall', 'respect']);
    expect(daemon.logs).toContain('inet admin forward');
    expect(shell(HOST, 'nft list chain inet admin forward')).not.toContain('caisson');
    await check('host drops input and forward, firewall respect', false);
    expect(await reach()).toMatch(/^blocked by host firewall(,loopback)?$/);
    shell(HOST, 'nft delete table inet admin');
    await check('respect, without the host’s chains');
    // a call takes more than the usual second on an emulated machine
    await vi.waitFor(async () => expect(await reach()).toMatch(/^LAN(,loopback)?$/), { timeout: 60_000 });
  });
});
