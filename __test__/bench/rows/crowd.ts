/** Row 25: how fast requests are answered beside clients that do not read, or say nothing. */
import { Crowd, controlRequests, Prober } from '../../helpers/crowd.ts';
import { type Bench, docker, type Subjects } from '../bench.ts';
import type { Daemon } from '../daemons.ts';

const SIZE = { idle: 10_000, logs: 1000, events: 200 };
const ROUNDS = 3;
const REQUESTS = 500;

export async function crowdRow(bench: Bench, { caisson, dockerd, image }: Subjects): Promise<void> {
  const id = '25-crowd';
  if (!bench.wanted(id)) return;
  const what = `the slowest but 1 % of ${REQUESTS} requests, beside ${SIZE.idle} idle connections, ${SIZE.logs} followers of logs and ${SIZE.events} readers of events that do not read`;
  const [ours, theirs] = [await slowest(caisson, image), await slowest(dockerd, image)];
  bench.add({ id, what, unit: 'ms', peer: 'dockerd', ours, theirs });
}

async function slowest(daemon: Daemon, image: string): Promise<number[]> {
  const script = 'yes 0123456789012345678901234567890123456789 | head -n 100000; exec sleep 1000';
  docker(daemon, 'run', '-d', '--name', 'talker', '--network', 'none', image, 'sh', '-c', script);
  using crowd = new Crowd(daemon.socket);
  await crowd.gather(SIZE, 'talker');
  using prober = new Prober(daemon.socket);
  const requests = controlRequests('talker');
  const rounds: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const times: number[] = [];
    for (let at = 0; at < REQUESTS; at++) {
      const [method, path] = requests[at % requests.length] ?? ['GET', '/_ping'];
      times.push((await prober.ask(method, path)).ms);
    }
    rounds.push(times.sort((a, b) => a - b)[Math.floor(REQUESTS * 0.99)] ?? 0);
  }
  crowd[Symbol.dispose]();
  docker(daemon, 'rm', '-f', 'talker');
  return rounds;
}
