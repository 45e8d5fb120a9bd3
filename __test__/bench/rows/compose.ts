/** A compose project of ten services comes and goes. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { COMPOSE } from '../../helpers/requires.ts';
import { type Bench, type Subjects, timedMs } from '../bench.ts';
import type { Daemon } from '../daemons.ts';

export async function composeRow(bench: Bench, { caisson, dockerd, image }: Subjects): Promise<void> {
  const file = join(bench.dir, 'compose.json');
  const service = { image, command: ['sleep', '100000'], stop_signal: 'SIGKILL' };
  const services = Object.fromEntries(Array.from({ length: 10 }, (_, at) => [`service${at}`, service]));
  writeFileSync(file, JSON.stringify({ name: 'bench', services }));
  const project = (daemon: Daemon) => () =>
    timedMs(() => {
      for (const command of [['up', '-d'], ['down']]) {
        execFileSync(COMPOSE, ['-f', file, '--progress', 'quiet', ...command], {
          stdio: 'ignore',
          env: { ...process.env, DOCKER_HOST: `unix://${daemon.socket}` },
        });
      }
    });
  await bench.pairs({
    id: 'compose',
    what: 'compose up -d and down of 10 services',
    unit: 'ms',
    peer: 'dockerd',
    count: Math.max(3, bench.pairCount >> 2),
    ours: project(caisson),
    theirs: project(dockerd),
  });
}
