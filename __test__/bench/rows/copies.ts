/** Row 8, and what else moves many bytes: cp, save, load, commit and push. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Bench, docker, type Subjects, timedMs } from '../bench.ts';
import type { Daemon } from '../daemons.ts';

const FILES = 10_000;
const CHANGED = 300_000_000;

export async function copyRows(bench: Bench, subjects: Subjects): Promise<void> {
  await cpRows(bench, subjects);
  await archiveRows(bench, subjects);
  await pushRow(bench, subjects);
}

async function cpRows(bench: Bench, { caisson, dockerd, image }: Subjects): Promise<void> {
  if (!bench.wanted('cp-')) return;
  const source = join(bench.dir, 'files');
  for (let at = 0; at < FILES; at++) {
    if (at % 100 === 0) mkdirSync(join(source, String(at / 100)), { recursive: true });
    writeFileSync(join(source, String(Math.floor(at / 100)), `${at}`), `file ${at}\n`.repeat(100));
  }
  for (const daemon of [caisson, dockerd])
    docker(daemon, 'run', '-d', '--name', 'copied', '--network', 'none', image, 'sleep', '100000');
  // nothing is removed in between: ext4 would step over the inodes of what has just been deleted
  let copied = 0;
  const into = (daemon: Daemon) => () => timedMs(() => docker(daemon, 'cp', source, `copied:/files-${copied++}`));
  const targets = join(bench.dir, 'out');
  mkdirSync(targets);
  const out = (daemon: Daemon) => (): number => {
    const target = join(targets, String(copied++));
    return timedMs(() => docker(daemon, 'cp', 'copied:/kept', target));
  };
  const base = { unit: 'ms', peer: 'dockerd', count: Math.max(3, bench.pairCount >> 2) };
  const what = `docker cp of ${FILES} files`;
  await bench.pairs({
    ...base,
    id: 'cp-in',
    what: `${what} into a container`,
    ours: into(caisson),
    theirs: into(dockerd),
  });
  for (const daemon of [caisson, dockerd]) docker(daemon, 'cp', source, 'copied:/kept');
  await bench.pairs({ ...base, id: 'cp-out', what: `${what} out of it`, ours: out(caisson), theirs: out(dockerd) });
  for (const daemon of [caisson, dockerd]) docker(daemon, 'rm', '-f', 'copied');
  for (const directory of [source, targets]) rmSync(directory, { recursive: true });
}

/** The large image of row 7, which the registry still has. */
async function archiveRows(bench: Bench, { caisson, dockerd }: Subjects): Promise<void> {
  if (!bench.wanted('save') && !bench.wanted('load')) return;
  for (const daemon of [caisson, dockerd]) docker(daemon, 'pull', '-q', 'big:latest');
  const file = (daemon: Daemon): string => join(bench.dir, `${daemon.name}.tar`);
  const save = (daemon: Daemon) => () => timedMs(() => docker(daemon, 'save', '-o', file(daemon), 'big:latest'));
  const load = (daemon: Daemon) => (): number => {
    docker(daemon, 'rmi', 'big:latest');
    return timedMs(() => docker(daemon, 'load', '-q', '-i', file(daemon)));
  };
  const base = { unit: 'ms', peer: 'dockerd', count: 3 };
  const what = 'of a 1 GB, 7-layer, 45,000-file image';
  await bench.pairs({ ...base, id: 'save', what: `save ${what}`, ours: save(caisson), theirs: save(dockerd) });
  for (const daemon of [caisson, dockerd]) save(daemon)();
  await bench.pairs({ ...base, id: 'load', what: `load ${what}`, ours: load(caisson), theirs: load(dockerd) });
  for (const daemon of [caisson, dockerd]) {
    docker(daemon, 'rmi', 'big:latest');
    rmSync(file(daemon));
  }
}

async function pushRow(bench: Bench, { caisson, dockerd, registry, image }: Subjects): Promise<void> {
  let pushed = 0;
  // half of it random, half of it text: each time other bytes, or the registry would have them already
  const change = `head -c ${CHANGED / 2} /dev/urandom > /random; yes "$(head -c 30 /dev/urandom | base64)" | head -c ${CHANGED / 2} > /text`;
  const commitAndPush = (daemon: Daemon) => (): number => {
    const id = docker(daemon, 'run', '-d', '--network', 'none', image, 'sh', '-c', change);
    docker(daemon, 'wait', id);
    const name = `${new URL(registry).host}/bench/changed:${pushed++}`;
    const ms = timedMs(() => {
      docker(daemon, 'commit', id, name);
      docker(daemon, 'push', '-q', name);
    });
    docker(daemon, 'rm', id);
    docker(daemon, 'rmi', name);
    return ms;
  };
  await bench.pairs({
    id: '8-push',
    what: 'commit and push of 300 MB changed',
    unit: 'ms',
    peer: 'dockerd',
    count: 3,
    ours: commitAndPush(caisson),
    theirs: commitAndPush(dockerd),
  });
}
