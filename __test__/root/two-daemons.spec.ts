/** Two daemons on one host, each with a bridge and a table of its own: neither closes or takes what is the other's. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { oracle } from '../helpers/oracle.ts';
import { missing } from '../helpers/requires.ts';

const [HOST, NEIGHBOUR] = [`cat${process.pid}h`, `cat${process.pid}n`];
const SERVE = ['busybox', 'httpd', '-f', '-h', '/etc'];

describe.skipIf(missing('root', 'build', 'docker', 'busybox', 'ip', 'nft'))('two daemons on one host', () => {
  let first: TestDaemon;
  let second: TestDaemon;

  /** The name of the container that answers there. */
  const answer = (from: string, address: string, port: string): string => {
    const line = `printf 'GET /hostname HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 2 ${address} ${port}`;
    const { stdout } = spawnSync('ip', ['netns', 'exec', from, 'sh', '-c', line], { encoding: 'utf8' });
    return stdout.trim().split('\n').at(-1) ?? '';
  };
  const serve = async (daemon: TestDaemon, name: string, port: string): Promise<string> => {
    await daemon.dockerOk('run', '-d', '--name', name, '-h', name, '-p', port, ...SERVE);
    await daemon.dockerOk('exec', name, 'sh', '-c', 'until wget -qO /dev/null http://127.0.0.1/hostname; do :; done');
    return (await daemon.dockerOk('port', name, '80')).split('\n')[0]?.split(':').at(-1) ?? '';
  };
  /** The shims of a daemon that has ended, and their containers: as after a loss of memory. */
  const killShims = (daemon: TestDaemon): void => {
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      const file = (name: string): string => {
        try {
          return readFileSync(`/proc/${pid}/${name}`, 'utf8');
        } catch {
          return '';
        }
      };
      const isShim = file('cmdline').includes('caisson-shim') && file('cmdline').includes(daemon.dir);
      if (isShim || file('cgroup').includes(`${daemon.cgroupParent}/`)) process.kill(Number(pid), 'SIGKILL');
    }
  };

  beforeAll(async () => {
    const line = `set -e; ip netns add ${HOST}; ip netns add ${NEIGHBOUR}
      ip -n ${HOST} link add lan0 type veth peer name lan netns ${NEIGHBOUR}
      ip -n ${HOST} link set lo up; ip -n ${HOST} link set lan0 up
      ip -n ${HOST} addr add 192.0.2.1/29 dev lan0; ip -n ${HOST} addr add 192.0.2.3/29 dev lan0
      ip -n ${NEIGHBOUR} link set lan up; ip -n ${NEIGHBOUR} addr add 192.0.2.2/29 dev lan`;
    expect(spawnSync('sh', ['-c', line], { encoding: 'utf8' }).stderr).toBe('');
    first = new TestDaemon();
    second = new TestDaemon();
    for (const daemon of [first, second]) {
      daemon.launcher = ['nsenter', `--net=/run/netns/${HOST}`, '--'];
      await daemon.start();
      await daemon.loadBusybox();
    }
  });
  afterAll(async () => {
    for (const daemon of [first, second]) await daemon[Symbol.asyncDispose]();
    for (const name of [HOST, NEIGHBOUR]) spawnSync('ip', ['netns', 'delete', name]);
  });

  test('each is reached at its ports, from outside, from the host and by the other\u2019s containers', async () => {
    const ports = { one: await serve(first, 'one', '80'), two: await serve(second, 'two', '80') };
    for (const [name, port] of Object.entries(ports)) {
      for (const from of [NEIGHBOUR, HOST]) expect([from, answer(from, '192.0.2.1', port)]).toEqual([from, name]);
      for (const daemon of [first, second]) {
        const url = `http://192.0.2.1:${port}/hostname`;
        expect(await daemon.dockerOk('run', '--rm', 'busybox', 'wget', '-qO-', url)).toBe(name);
      }
    }
    const address = await first.dockerOk('inspect', '-f', '{{.NetworkSettings.IPAddress}}', 'one');
    const ping = ['run', '--rm', 'busybox', 'ping', '-c', '1', '-W', '1', address];
    expect((await second.docker(ping)).code, 'an address of the other\u2019s bridge is closed').toBe(1);
  });

  test('a daemon under the same cgroup leaves the other’s containers alone when it starts', async () => {
    await using third = new TestDaemon(['--cgroup-parent', first.cgroupParent]);
    third.launcher = first.launcher;
    const id = await first.dockerOk('run', '-d', '--network', 'none', 'busybox', 'sleep', '1000');
    await third.start();
    await third.kill('SIGKILL');
    await third.start();
    expect(await first.dockerOk('ps', '-q', '--no-trunc', '-f', `id=${id}`)).toBe(id);
    await first.dockerOk('rm', '-f', id);
  });

  // the kernel asks the table that was written last first
  test.each(['older', 'newer'])('a port that a dead daemon’s %s table still has goes to who holds it', async (age) => {
    const [dead, other] = [first, second];
    const last = age === 'newer' ? dead : other;
    await last.kill('SIGTERM');
    await last.start();
    await serve(dead, 'gone', '18080:80');
    await serve(dead, 'gone6', '192.0.2.3:18081:80');
    await dead.kill('SIGKILL');
    killShims(dead);
    await serve(other, 'there', '18080:80');
    await serve(other, 'there6', '18081:80');
    expect(answer(NEIGHBOUR, '192.0.2.1', '18080')).toBe('there');
    expect(answer(NEIGHBOUR, '192.0.2.3', '18081')).toBe('there6');
    await dead.start();
    expect(answer(NEIGHBOUR, '192.0.2.1', '18080')).toBe('there');
    expect(await dead.dockerOk('ps', '-aq', '-f', 'status=exited', '-f', 'name=gone')).not.toBe('');
    await dead.removeContainers();
    expect(answer(NEIGHBOUR, '192.0.2.3', '18081')).toBe('there6');
    await other.removeContainers();
    for (const daemon of [first, second]) expect(await oracle(daemon)).toEqual([]);
  });
});
