/** Networks of users with the real docker client: made, joined, left, removed; names; a daemon that is killed. */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { decode, encode } from 'dns-packet';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { run, TestDaemon } from '../helpers/daemon.ts';
import { oracle } from '../helpers/oracle.ts';
import { missing } from '../helpers/requires.ts';

/** Not wget: that of a static busybox cannot look a name up. */
const GET_NAME = `printf 'GET /name HTTP/1.0\\r\\n\\r\\n' | nc -w 5 db 80`;

/** Asks for 3,000 names at once and prints how many were answered; no socket is sent more than it holds. */
const MANY = `
  const { createSocket } = require('node:dgram');
  let answers = 0;
  const sockets = Array.from({ length: 30 }, () => createSocket('udp4'));
  const over = () => { console.log(answers); process.exit(); };
  setTimeout(over, 20_000);
  for (const [number, socket] of sockets.entries()) {
    socket.on('message', () => ++answers === 3000 && over());
    for (let id = 0; id < 100; id++) {
      const name = 'many' + number + '-' + id;
      const head = Buffer.from([0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, name.length]);
      socket.send(Buffer.concat([head, Buffer.from(name), Buffer.from([4, 116, 101, 115, 116, 0, 0, 1, 0, 1])]), 53, '127.0.0.11');
    }
  }`;

/** A server of the test's own on the host's loopback: what containers ask is passed on to it. */
const UPSTREAM = '127.88.53.1';

describe.skipIf(missing('root', 'build', 'docker', 'busybox', 'nft', 'ip'))('networks', () => {
  let daemon: TestDaemon;
  let upstream: Socket;
  const asked: string[] = [];
  /** While it is above 0 the server says nothing; each question lessens it. */
  let silence = 0;
  const unanswered: (() => void)[] = [];

  beforeAll(async () => {
    daemon = await new TestDaemon(['--dns', UPSTREAM]).start();
    await daemon.loadBusybox();
    upstream = createSocket('udp4', (query, from) => {
      const packet = decode(query);
      const question = packet.questions?.[0];
      asked.push(`${question?.name}`);
      const answers = [{ type: 'A' as const, name: `${question?.name}`, ttl: 1, data: '192.0.2.77' }];
      const { id = 0, questions = [] } = packet;
      unanswered.push(() =>
        upstream.send(encode({ type: 'response', id, questions, answers }), from.port, from.address),
      );
      if (--silence <= 0) for (const answer of unanswered.splice(0)) answer();
    });
    upstream.bind(53, UPSTREAM);
    await once(upstream, 'listening');
  }, 60_000);

  afterAll(async () => {
    upstream.close();
    const left = await daemon.docker(['network', 'ls', '-q', '-f', 'type=custom']);
    await daemon[Symbol.asyncDispose]();
    expect(left.stdout).toBe('');
  });

  const inspect = async (name: string): Promise<NetworkShape> =>
    (JSON.parse(await daemon.dockerOk('network', 'inspect', name)) as NetworkShape[])[0] as NetworkShape;
  const failing = async (...args: string[]): Promise<string> => {
    const { code, stderr } = await daemon.docker(args);
    expect(code).toBe(1);
    return stderr;
  };
  const bridgeOf = async (name: string): Promise<string> => `br-${(await inspect(name)).Id.slice(0, 12)}`;

  test('one is made with its bridge, shown, and removed with it', async () => {
    const id = await daemon.dockerOk(
      ...['network', 'create', '--subnet', '10.199.1.0/24', '--gateway', '10.199.1.9', '--ip-range', '10.199.1.128/25'],
      ...[
        '--aux-address',
        'printer=10.199.1.130',
        '--label',
        'team=a',
        '-o',
        'com.docker.network.driver.mtu=1300',
        'made',
      ],
    );
    expect(await inspect('made')).toMatchObject({
      Id: id,
      Driver: 'bridge',
      EnableIPv6: false,
      Internal: false,
      IPAM: {
        Config: [
          {
            Subnet: '10.199.1.0/24',
            IPRange: '10.199.1.128/25',
            Gateway: '10.199.1.9',
            AuxiliaryAddresses: { printer: '10.199.1.130' },
          },
        ],
      },
      Labels: { team: 'a' },
    });
    const bridge = await bridgeOf('made');
    expect((await run('ip', ['addr', 'show', 'dev', bridge])).stdout).toMatch(/mtu 1300[\s\S]*10\.199\.1\.9\/24/);
    expect(await daemon.dockerOk('network', 'ls', '--format', '{{.Name}}', '-f', 'label=team=a')).toBe('made');
    expect(await failing('network', 'create', 'made')).toContain('network with name made already exists');
    expect(await failing('network', 'create', '--subnet', '10.199.0.0/16', 'other')).toContain(
      'Pool overlaps with other',
    );
    expect(await failing('network', 'create', '-o', 'com.example.x=1', 'other')).toContain(
      'com.example.x is not supported',
    );
    expect(await failing('network', 'create', '--driver', 'overlay', 'other')).toContain('plugin "overlay" not found');
    expect(await failing('network', 'rm', 'bridge')).toContain('bridge is a pre-defined network and cannot be removed');
    await daemon.dockerOk('network', 'rm', 'made');
    expect((await run('ip', ['link', 'show', 'dev', bridge])).code).not.toBe(0);
    expect(await failing('network', 'inspect', 'made')).toContain('network made not found');
  });

  test('containers on it have the addresses and names that they ask for', async () => {
    await daemon.dockerOk('network', 'create', '--ipv6', '--subnet', '10.199.2.0/24', '--subnet', 'fd99:2::/64', 'own');
    await daemon.dockerOk(
      ...[
        'run',
        '-d',
        '--name',
        'web',
        '--network',
        'name=own,alias=www,ip=10.199.2.50,ip6=fd99:2::50,mac-address=02:99:00:00:00:50',
      ],
      ...['busybox', 'sleep', '1000'],
    );
    expect((await inspect('own')).Containers).toMatchObject({
      [await daemon.dockerOk('inspect', '-f', '{{.Id}}', 'web')]: {
        Name: 'web',
        IPv4Address: '10.199.2.50/24',
        IPv6Address: 'fd99:2::50/64',
        MacAddress: '02:99:00:00:00:50',
      },
    });
    const seen = await daemon.dockerOk(
      ...['run', '--rm', '--network', 'own', 'busybox', 'sh', '-c'],
      'for n in web www web.own; do ping -4 -c1 -W5 $n | head -1; done; ping -6 -c1 -W5 web | head -1; nslookup 10.199.2.50 | grep name; cat /etc/resolv.conf',
    );
    for (const name of ['web', 'www', 'web.own']) expect(seen).toContain(`PING ${name} (10.199.2.50)`);
    expect(seen).toContain('PING web (fd99:2::50)');
    expect(seen).toMatch(/50\.2\.199\.10\.in-addr\.arpa\s+name = web\.own/);
    expect(seen).toContain('nameserver 127.0.0.11');
    expect(await failing('network', 'rm', 'own')).toMatch(
      /network own has active endpoints \(name:"web" id:"[0-9a-f]{12}"\)/,
    );
    const taken = await daemon.docker(['run', '--rm', '--network', 'own', '--ip', '10.199.2.50', 'busybox', 'true']);
    expect(taken.stderr).toContain('Address already in use');
    const outside = await daemon.docker(['run', '--rm', '--network', 'own', '--ip', '10.1.1.1', 'busybox', 'true']);
    expect(outside.stderr).toContain('no configured subnet or ip-range contain the IP address 10.1.1.1');
  });

  test('bridges are closed to each other, and a container on two sees both', async () => {
    await daemon.dockerOk('network', 'create', '--internal', '--subnet', '10.199.3.0/24', 'back');
    await daemon.dockerOk(
      'run',
      '-d',
      '--name',
      'db',
      '--network',
      'back',
      'busybox',
      'sh',
      '-c',
      'echo db >/tmp/name; exec httpd -f -h /tmp',
    );
    const from = (network: string, command: string) =>
      daemon.docker(['run', '--rm', '--network', network, 'busybox', 'sh', '-c', command]);
    const address = await daemon.dockerOk('inspect', '-f', '{{.NetworkSettings.Networks.back.IPAddress}}', 'db');
    expect((await from('back', GET_NAME)).stdout).toMatch(/db\n$/);
    expect((await from('own', `nc -w 1 ${address} 80 </dev/null`)).code).not.toBe(0);
    expect((await from('own', 'nslookup db')).stdout).not.toContain(address);
    expect((await daemon.docker(['exec', 'web', 'nc', '-w', '1', address, '80'])).code).not.toBe(0);
    await daemon.dockerOk('network', 'connect', '--alias', 'front', 'back', 'web');
    const joined = await daemon.dockerOk('exec', 'web', 'sh', '-c', `${GET_NAME}; ip route; cat /etc/hosts`);
    expect(joined).toMatch(/\ndb\n/);
    expect(joined).toContain('default via 10.199.2.1 dev eth0');
    expect(joined).toMatch(/10\.199\.3\.\d+\t/);
    expect((await from('back', 'ping -c1 -W5 front')).code).toBe(0);
    await daemon.dockerOk('network', 'disconnect', 'own', 'web');
    const left = await daemon.dockerOk('exec', 'web', 'sh', '-c', 'ip -o addr; ip route');
    expect(left).not.toContain('10.199.2.');
    expect(left).not.toContain('default');
    await daemon.dockerOk('network', 'connect', 'own', 'web');
    expect(await daemon.dockerOk('exec', 'web', 'ip', 'route')).toContain('default via 10.199.2.1');
    expect(await failing('network', 'connect', 'own', 'web')).toContain('already exists in network own');
  });

  test('other names are asked of the server that was given; those of an internal network are not', async () => {
    const out = await daemon.dockerOk('exec', 'web', 'nslookup', 'outside.example');
    expect(out).toContain('192.0.2.77');
    expect(asked).toContain('outside.example');
    const inside = await daemon.docker(['exec', 'db', 'nslookup', 'secret.example']);
    expect(inside.code).not.toBe(0);
    expect(asked).not.toContain('secret.example');
  });

  test('a server that is slow for a while loses no question', async () => {
    const pid = await daemon.dockerOk('inspect', '-f', '{{.State.Pid}}', 'web');
    silence = 250;
    const { stdout, stderr } = await run('nsenter', ['-n', '-t', pid, process.execPath, '-e', MANY]);
    expect(`${stdout}${stderr}`.trim()).toBe('3000');
  }, 40_000);

  test('a container may end before its question is answered', async () => {
    silence = Number.POSITIVE_INFINITY;
    await daemon.dockerOk('run', '-d', '--name', 'short', '--network', 'own', 'busybox', 'nslookup', 'late.example');
    while (!asked.includes('late.example')) await once(upstream, 'message');
    await daemon.dockerOk('rm', '-f', 'short');
    silence = 0;
    for (const answer of unanswered.splice(0)) answer();
    expect(await daemon.dockerOk('exec', 'web', 'nslookup', 'next.example')).toContain('192.0.2.77');
  });

  test('names are answered over TCP as well, and replicas in turn', async () => {
    const names = Array.from({ length: 3 }, (_, at) => `replica${at}`);
    for (const name of names) {
      await daemon.dockerOk(
        'run',
        '-d',
        '--name',
        name,
        '--network',
        'own',
        '--network-alias',
        'all',
        'busybox',
        'sleep',
        '1000',
      );
    }
    const first = new Set<string>();
    for (let turn = 0; turn < 3; turn++) {
      const answer = await daemon.dockerOk('exec', 'web', 'nslookup', '-type=a', 'all');
      first.add(/Name:\s+all\s+Address: (\S+)/.exec(answer)?.[1] ?? '');
    }
    expect(first.size).toBe(3);
    const query = encode({ type: 'query', id: 7, questions: [{ type: 'A', name: 'all' }] });
    const framed = Buffer.concat([Buffer.from([0, query.length]), query]);
    const script = `printf '${[...framed].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('')}' | nc -w 2 127.0.0.11 53 | hexdump -ve '1/1 "%02x"'`;
    const answer = Buffer.from(await daemon.dockerOk('exec', 'web', 'sh', '-c', script), 'hex');
    expect(decode(answer.subarray(2)).answers).toHaveLength(3);
    await daemon.dockerOk('rm', '-f', ...names);
  });

  test('a question asked while the daemon is gone is answered by the next', async () => {
    const pid = await daemon.dockerOk('inspect', '-f', '{{.State.Pid}}', 'web');
    await daemon.kill('SIGKILL');
    const answer = run('nsenter', ['-n', '-t', pid, 'busybox', 'nslookup', 'db', '127.0.0.11']);
    await daemon.start();
    expect((await answer).stdout).toMatch(/Address: 10\.199\.3\.\d+/);
    expect(await daemon.dockerOk('exec', 'db', 'ping', '-c1', '-W5', 'web')).toContain('1 packets received');
    expect(await oracle(daemon)).toEqual([]);
  });

  test('a container leaves none and joins another, and what it cannot have is refused', async () => {
    const docker = (line: string): Promise<string> => daemon.dockerOk(...line.split(' '));
    const devices = (): Promise<string> => docker('exec alone ls /sys/class/net');
    await docker('network create --subnet 10.222.7.0/24 --ip-range 10.222.7.8/29 part');
    await docker('run -d --name alone --network none busybox sleep 1000');
    expect(Object.keys((await inspect('none')).Containers)).toHaveLength(1);
    expect(await failing('network', 'connect', 'part', 'alone')).toContain('multiple networks');
    await docker('network disconnect none alone');
    await docker('network connect part alone');
    expect(await devices()).toBe('eth0\nlo');
    // the first address of the range is the gateway's
    expect(await docker('exec alone ip route')).toContain('default via 10.222.7.8 dev eth0');
    await docker('restart -t 0 alone');
    expect(await devices()).toBe('eth0\nlo');
    await docker('network disconnect part alone');
    await docker('network connect none alone');
    await docker('restart -t 0 alone');
    expect(await devices()).toBe('lo');
    await docker('stop -t 0 alone');
    await docker('network disconnect none alone');
    for (const address of ['10.222.7.0', '10.222.7.255', '10.222.7.8']) {
      await docker(`network connect --ip ${address} part alone`);
      expect(await failing('start', 'alone')).toContain('Address already in use');
      await docker('network disconnect part alone');
    }
    await docker('rm alone');
    await docker('network rm part');
  });

  test('each family leaves by the network that can, the first by priority, both families and name', async () => {
    const docker = (line: string): Promise<string> => daemon.dockerOk(...line.split(' '));
    await docker('network create --subnet 10.223.1.0/24 four');
    await docker('network create --ipv4=false --ipv6 --subnet fd23:2::/64 six');
    await docker('network create --subnet 10.223.3.0/24 --ipv6 --subnet fd23:3::/64 zboth');
    const ways = async (): Promise<string[]> => {
      const routes = await daemon.dockerOk('exec', 'alone', 'sh', '-c', 'ip route; ip -6 route');
      return [...routes.matchAll(/default via (\S+)/g)].map(([, gateway = '']) => gateway);
    };
    const ports = async (): Promise<unknown> =>
      (JSON.parse(await docker('inspect alone')) as [{ NetworkSettings: { Ports: object } }])[0].NetworkSettings.Ports;
    await docker('run -d --name alone --network four --network six -p 18080:80 busybox httpd -f -h /etc');
    const apart = ['10.223.1.1', 'fd23:2::1'];
    expect(await ways()).toEqual(apart);
    const published = await ports();
    for (const address of ['127.0.0.1', '[::1]'])
      expect(await fetch(`http://${address}:18080/hostname`)).toMatchObject({ ok: true });
    await docker('network connect zboth alone');
    expect(await ways()).toEqual(['10.223.3.1', 'fd23:3::1']);
    await docker('network disconnect zboth alone');
    expect(await ways()).toEqual(apart);
    await docker('network connect --gw-priority 1 zboth alone');
    await docker('restart -t 0 alone');
    expect(await ways()).toEqual(['10.223.3.1', 'fd23:3::1']);
    await docker('network disconnect zboth alone');
    expect(await ways()).toEqual(apart);
    expect(await ports()).toEqual(published);
    for (const address of ['127.0.0.1', '[::1]'])
      expect(await fetch(`http://${address}:18080/hostname`)).toMatchObject({ ok: true });
    await docker('rm -f alone');
    await docker('network rm four six zboth');
  });

  test('what others have written to a running container’s files stays, and its links follow their targets', async () => {
    const docker = (line: string): Promise<string> => daemon.dockerOk(...line.split(' '));
    await docker('network create --subnet 10.224.1.0/24 more');
    await docker('run -d --name target busybox sleep 1000');
    await docker('run -d --name linked --link target:tgt busybox sleep 1000');
    const inside = (line: string): Promise<string> => daemon.dockerOk('exec', 'linked', 'sh', '-c', line);
    const linkedTo = async (): Promise<string[]> => {
      const hosts = await inside('cat /etc/hosts');
      expect(hosts).toContain('192.0.2.5\tmine');
      return [...hosts.matchAll(/^(\S+)\ttgt /gm)].map(([, address = '']) => address);
    };
    const addressOf = (): Promise<string> => docker('inspect -f {{.NetworkSettings.IPAddress}} target');
    await inside('printf "192.0.2.5\\tmine\\n" >> /etc/hosts; echo nameserver 192.0.2.53 > /etc/resolv.conf');
    await docker('network connect more linked');
    expect(await inside('cat /etc/hosts')).toMatch(/^10\.224\.1\.2\t/m);
    expect(await inside('cat /etc/resolv.conf')).toBe('nameserver 192.0.2.53');
    await docker('network disconnect more linked');
    expect(await inside('cat /etc/hosts')).not.toContain('10.224.1.2');
    expect(await linkedTo()).toEqual([await addressOf()]);
    await docker('stop -t 0 target');
    expect(await linkedTo()).toEqual([]);
    await docker('run -d --name between busybox sleep 1000');
    await docker('start target');
    const now = await addressOf();
    expect(await linkedTo()).toEqual([now]);
    await docker('network disconnect bridge target');
    expect(await linkedTo()).toEqual([]);
    await docker('network connect bridge target');
    expect(await linkedTo()).toEqual([await addressOf()]);
    await docker('rm -f target linked between');
    await docker('network rm more');
  });

  test('a container whose network was removed says so; unused ones are pruned', async () => {
    await daemon.dockerOk('network', 'create', 'gone');
    await daemon.dockerOk('create', '--name', 'late', '--network', 'gone', 'busybox', 'true');
    await daemon.dockerOk('network', 'rm', 'gone');
    expect(await failing('start', 'late')).toContain('network gone not found');
    await daemon.dockerOk('rm', '-f', 'web', 'db', 'late');
    expect(await daemon.dockerOk('network', 'prune', '-f')).toMatch(/own[\s\S]*back|back[\s\S]*own/);
    expect(await oracle(daemon)).toEqual([]);
    expect(readFileSync('/proc/net/dev', 'utf8')).toContain(daemon.bridge);
  });
});

interface NetworkShape {
  Id: string;
  Containers: Record<string, object>;
}
