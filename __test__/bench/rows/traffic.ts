/** What a network carries: a published port, two containers, and questions to the embedded DNS server. */
import { execFileSync, spawn } from 'node:child_process';
import { join } from 'node:path';
import { packageRoot } from '../../../ts/packageRoot.ts';
import { type Bench, docker, type Subjects } from '../bench.ts';
import type { Daemon } from '../daemons.ts';

const BYTES = 1_000_000_000;
const PORT = '5001';
/** Of the host, and not loopback: the firewall's table leads to the container. */
const HOST = '198.18.0.1';
const UPSTREAMS = ['198.18.0.2', '198.18.0.3', '198.18.0.4'] as const;
const DNS = { seconds: 5, rate: 1000 };

/** `program`: traffic.c, compiled. */
export async function trafficRows(bench: Bench, subjects: Subjects, program: string): Promise<void> {
  if (!bench.wanted('traffic-') && !bench.wanted('dns-')) return;
  for (const address of [HOST, ...UPSTREAMS]) execFileSync('ip', ['address', 'replace', `${address}/32`, 'dev', 'lo']);
  await throughputRows(bench, subjects, program);
  await dnsRow(bench, subjects, program);
}

async function throughputRows(bench: Bench, { caisson, dockerd, image }: Subjects, program: string): Promise<void> {
  if (!bench.wanted('traffic-')) return;
  const mount = ['-v', `${program}:/traffic:ro`];
  const hostPort = (daemon: Daemon): string => (daemon === caisson ? '25001' : '25002');
  for (const daemon of [caisson, dockerd]) {
    docker(daemon, 'network', 'create', 'traffic');
    const publish = ['--network', 'traffic', '-p', `${hostPort(daemon)}:${PORT}`];
    docker(daemon, 'run', '-d', '--name', 'source', ...publish, ...mount, image, '/traffic', 'serve', PORT, `${BYTES}`);
    docker(daemon, 'run', '-d', '--name', 'sink', '--network', 'traffic', ...mount, image, 'sleep', '100000');
  }
  /** ms. */
  const heard = (output: string): number => {
    const [, bytes, took] = /^(\d+) bytes (\d+)$/.exec(output.trim()) ?? [];
    if (Number(bytes) !== BYTES) throw new Error(`${BYTES} bytes were to come: ${output}`);
    return Number(took) / 1000;
  };
  const fromHost = (address: string) => (daemon: Daemon) => () =>
    heard(execFileSync(program, ['fetch', address, hostPort(daemon)], { encoding: 'utf8' }));
  const fromSibling = (daemon: Daemon) => () =>
    heard(docker(daemon, 'exec', 'sink', '/traffic', 'fetch', addressOf(daemon, 'source'), PORT));
  for (const [id, what, fetch] of [
    ['traffic-published', '1 GB from a published port, by an address of the host', fromHost(HOST)],
    ['traffic-loopback', '1 GB from a published port, by 127.0.0.1', fromHost('127.0.0.1')],
    ['traffic-bridge', '1 GB between two containers of a network', fromSibling],
  ] as const) {
    const count = Math.max(3, bench.pairCount >> 2);
    await bench.pairs({ id, what, unit: 'ms', peer: 'dockerd', count, ours: fetch(caisson), theirs: fetch(dockerd) });
  }
  for (const daemon of [caisson, dockerd]) {
    docker(daemon, 'rm', '-f', 'source', 'sink');
    docker(daemon, 'network', 'rm', 'traffic');
  }
}

const addressOf = (daemon: Daemon, name: string): string =>
  docker(daemon, 'inspect', '-f', '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}', name);

/** A name that no server says does not exist must never be told to be unresolvable: SERVFAIL from ours is a failure. */
async function dnsRow(bench: Bench, { caisson, dockerd, image }: Subjects, program: string): Promise<void> {
  if (!bench.wanted('dns-')) return;
  const upstreams = spawn(process.execPath, [join(packageRoot, '__test__/bench/upstreams.ts'), ...UPSTREAMS], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  for (const daemon of [caisson, dockerd]) {
    docker(daemon, 'network', 'create', 'asking');
    const servers = UPSTREAMS.flatMap((address) => ['--dns', address]);
    const own = ['--network', 'asking', ...servers, '-v', `${program}:/traffic:ro`];
    docker(daemon, 'run', '-d', '--name', 'asker', ...own, image, 'sleep', '100000');
  }
  const ask = (daemon: Daemon) => (): number => {
    const line = ['/traffic', 'dns', '127.0.0.11', `${DNS.seconds}`, `${DNS.rate}`];
    const [answered, failed, lost, p99] = docker(daemon, 'exec', 'asker', ...line)
      .split(' ')
      .map(Number);
    console.error(`  ${daemon.name}: ${answered} answers, ${failed} failures, ${lost} lost`);
    if (daemon === caisson && failed) throw new Error(`${failed} questions failed that a server would have answered`);
    return (p99 ?? 0) / 1000;
  };
  try {
    await bench.pairs({
      id: 'dns-dead-upstream',
      what: `99th percentile of ${DNS.rate} questions a second, one of three servers dead`,
      unit: 'ms',
      peer: 'dockerd',
      count: 3,
      ours: ask(caisson),
      theirs: ask(dockerd),
    });
  } finally {
    upstreams.kill();
    for (const daemon of [caisson, dockerd]) {
      docker(daemon, 'rm', '-f', 'asker');
      docker(daemon, 'network', 'rm', 'asking');
    }
  }
}
