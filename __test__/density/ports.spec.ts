/**
 * Many containers on one host, each with a published port: all answer, none fails a request while the daemon is killed and
 * comes back, and their removal leaves nothing. `npm run test:density` asks for 500 of them; CI for a few.
 */
import { spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { run, TestDaemon } from '../helpers/daemon.ts';
import { oracle } from '../helpers/oracle.ts';
import { missing } from '../helpers/requires.ts';

const COUNT = Number(process.env['CAISSON_DENSITY'] ?? 24);
/** Starts under way at once. */
const LANES = 8;
const [HOST, NEIGHBOUR] = [`cad${process.pid}h`, `cad${process.pid}n`];

/** Runs `work` for each, so many at once. */
async function inLanes<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const queue = [...items];
  const lane = async (): Promise<void> => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: LANES }, lane));
}

/** Asks every port at once for a page, or one after the other in lanes until its input ends; prints what failed. */
const CLIENT = `
  const { connect } = require('node:net');
  const [address, ports, lanes] = JSON.parse(process.argv[1]);
  const failed = [];
  let asked = 0, goOn = true;
  const ask = (port) => new Promise((resolve) => {
    const socket = connect({ host: address, port, timeout: 30000 });
    const end = (problem) => {
      socket.destroy();
      asked++;
      if (problem) failed.push(port + ' ' + problem);
      resolve();
    };
    socket.on('connect', () => socket.write('GET /hostname HTTP/1.0\\r\\n\\r\\n'));
    socket.once('data', (data) => end(String(data).startsWith('HTTP/1.1 200') ? '' : String(data)));
    socket.on('timeout', () => end('no answer'));
    socket.on('error', (error) => end(error.code));
    socket.once('end', () => end(''));
  });
  const lane = async (at) => { for (; goOn; at = (at + lanes) % ports.length) await ask(ports[at]); };
  process.stdin.on('end', () => { goOn = false; }).resume();
  const work = lanes === 0 ? ports.map(ask) : Array.from({ length: lanes }, (_, at) => lane(at));
  Promise.all(work).then(() => { console.log(JSON.stringify({ asked, failed })); process.exit(0); });`;

interface Asked {
  asked: number;
  failed: string[];
}

describe.skipIf(missing('root', 'build', 'docker', 'busybox', 'ip', 'nft'))(`${COUNT} published ports`, () => {
  let daemon: TestDaemon;
  let ports: number[];

  const client = (namespace: string, address: string, lanes: number): [string, string[]] => [
    'nsenter',
    [`--net=/run/netns/${namespace}`, process.execPath, '-e', CLIENT, JSON.stringify([address, ports, lanes])],
  ];
  /** All at once: by the shims' sockets, and by the firewall's table. */
  const askAll = async (): Promise<Asked[]> =>
    Promise.all(
      [client(HOST, '127.0.0.1', 0), client(NEIGHBOUR, '192.0.2.1', 0)].map(
        async ([command, args]) => JSON.parse((await run(command, args, { timeoutMs: 120_000 })).stdout) as Asked,
      ),
    );
  const all = (): Asked[] => [0, 1].map(() => ({ asked: ports.length, failed: [] }));

  beforeAll(async () => {
    const line = `set -e; ip netns add ${HOST}; ip netns add ${NEIGHBOUR}
      ip -n ${HOST} link add lan0 type veth peer name lan netns ${NEIGHBOUR}
      ip -n ${HOST} link set lo up; ip -n ${HOST} link set lan0 up; ip -n ${HOST} addr add 192.0.2.1/30 dev lan0
      ip -n ${NEIGHBOUR} link set lan up; ip -n ${NEIGHBOUR} addr add 192.0.2.2/30 dev lan`;
    expect(spawnSync('sh', ['-c', line], { encoding: 'utf8' }).stderr).toBe('');
    daemon = new TestDaemon();
    daemon.launcher = ['nsenter', `--net=/run/netns/${HOST}`, '--'];
    await daemon.start();
    await daemon.loadBusybox();
  });
  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
    for (const name of [HOST, NEIGHBOUR]) spawnSync('ip', ['netns', 'delete', name]);
  });

  test('all start and answer, over loopback and by the table', async () => {
    const body = {
      Image: 'busybox',
      Cmd: ['httpd', '-f', '-h', '/etc'],
      HostConfig: { PortBindings: { '80/tcp': [{ HostIp: '', HostPort: '' }] } },
    };
    await inLanes(
      Array.from({ length: COUNT }, (_, index) => `web${index}`),
      async (name) => {
        expect((await daemon.http('POST', `/containers/create?name=${name}`, body)).status).toBe(201);
        expect((await daemon.http('POST', `/containers/${name}/start`)).body).toBe('');
      },
    );
    const listed = JSON.parse((await daemon.http('GET', '/containers/json')).body) as {
      Ports: { PublicPort: number }[];
    }[];
    ports = [...new Set(listed.flatMap(({ Ports }) => Ports.map(({ PublicPort }) => PublicPort)))];
    expect(ports).toHaveLength(COUNT);
    expect(await askAll()).toEqual(all());
  });

  test('none fails a request while the daemon is killed and comes back', async () => {
    const asking = [client(HOST, '127.0.0.1', LANES), client(NEIGHBOUR, '192.0.2.1', LANES)].map(([command, args]) => {
      const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
      return { child, heard: text(child.stdout) };
    });
    for (let round = 0; round < 3; round++) {
      await daemon.kill('SIGKILL');
      expect(await askAll(), 'without a daemon').toEqual(all());
      await daemon.start();
      expect(await askAll(), 'under the next one').toEqual(all());
    }
    for (const { child, heard } of asking) {
      child.stdin.end();
      const { asked, failed } = JSON.parse(await heard) as Asked;
      expect(failed).toEqual([]);
      expect(asked).toBeGreaterThan(COUNT);
    }
  });

  test('their removal leaves nothing', async () => {
    const rssBefore = rssMb(daemon.pid);
    const names = Array.from({ length: COUNT }, (_, index) => `web${index}`);
    await inLanes(names, async (name) => {
      expect((await daemon.http('DELETE', `/containers/${name}?force=1`)).body).toBe('');
    });
    expect(await oracle(daemon)).toEqual([]);
    const list = ['netns', 'exec', HOST, 'nft', '-j', 'list', 'table', 'inet', `caisson_${daemon.bridge}`];
    const table = spawnSync('ip', list, { encoding: 'utf8' });
    const maps = (JSON.parse(table.stdout) as { nftables: { map?: { name: string; elem?: unknown[] } }[] }).nftables;
    expect(maps.flatMap(({ map }) => (map?.elem ? [map.name] : []))).toEqual([]);
    const [loopback, outside] = await askAll();
    const refused = ports.map((port) => `${port} ECONNREFUSED`).sort();
    expect([loopback?.failed.sort(), outside?.failed.sort()]).toEqual([refused, refused]);
    process.stdout.write(`daemon: ${rssBefore} MB with ${COUNT} containers, ${rssMb(daemon.pid)} MB without\n`);
  });
});

const rssMb = (pid: number): number =>
  Math.round(Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024);
