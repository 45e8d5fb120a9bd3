/**
 * npm run bench [-- --pairs N] [--only ROW,…]: measures caisson beside dockerd 28.5, podman, runc, crun and the floor
 * program in one run, in interleaved pairs, and writes BENCH.md, or the named rows of it. Needs root and what
 * scripts/bench-peers installs.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { packageRoot } from '../../ts/packageRoot.ts';
import { buildImage, busyboxTar, pushImage } from '../helpers/image.ts';
import { startRegistry } from '../helpers/registry.ts';
import { Bench, docker, type Subjects } from './bench.ts';
import { startCaisson, startDockerd } from './daemons.ts';
import { Podman } from './podman.ts';
import { composeRow } from './rows/compose.ts';
import { copyRows } from './rows/copies.ts';
import { crowdRow } from './rows/crowd.ts';
import { execRows } from './rows/exec.ts';
import { healthRow } from './rows/health.ts';
import { lifecycleRows } from './rows/lifecycle.ts';
import { idleMb, memoryRows } from './rows/memory.ts';
import { networkRows } from './rows/networks.ts';
import { pullRows } from './rows/pull.ts';
import { registryRows } from './rows/registry.ts';
import { removalRows } from './rows/removal.ts';
import { requestRows } from './rows/requests.ts';
import { runtimeRows } from './rows/runtime.ts';
import { streamRows } from './rows/streams.ts';
import { trafficRows } from './rows/traffic.ts';
import { table } from './table.ts';

const { values: options } = parseArgs({
  options: { pairs: { type: 'string', default: '40' }, only: { type: 'string' } },
});

const dir = mkdtempSync(join(tmpdir(), 'caisson-bench-'));
const compiled = (name: string): string => {
  const out = join(dir, name);
  execFileSync('gcc', ['-O2', '-static', '-o', out, join(import.meta.dirname, `${name}.c`)]);
  return out;
};
const bench = new Bench(Number(options.pairs), options.only?.split(','), dir, compiled('client'));

const daemons = !options.only || options.only.split(',').some((prefix) => !/^(?:registry|runtime)/.test(prefix));
if (daemons) await daemonRows();
await registryRows(bench, compiled('registry'));
await runtimeRows(bench, compiled('floor'));
const file = join(packageRoot, 'BENCH.md');
writeFileSync(file, table(bench.rows, options.only ? readFileSync(file, 'utf8') : ''));
rmSync(dir, { recursive: true, force: true });

/** The rows that need both daemons, which take a while to start. */
async function daemonRows(): Promise<void> {
  await using registry = await startRegistry();
  await pushImage(registry.url, 'library/bench', 'latest', buildImage([await busyboxTar()]));
  const dockerd = await startDockerd(join(dir, 'dockerd'), registry.url);
  const caisson = await startCaisson(join(dir, 'caisson'), registry.url);
  const subjects: Subjects = { caisson, dockerd, registry: registry.url, image: 'bench:latest' };
  try {
    const idle = { ours: idleMb(caisson), theirs: idleMb(dockerd) };
    const podman = new Podman(join(dir, 'podman'));
    for (const daemon of [dockerd, caisson]) docker(daemon, 'pull', '-q', subjects.image);
    podman.pull(registry.url, subjects.image);
    await lifecycleRows(bench, subjects, podman);
    await execRows(bench, subjects, podman);
    await removalRows(bench, subjects);
    await requestRows(bench, subjects);
    await crowdRow(bench, subjects);
    await networkRows(bench, subjects);
    await trafficRows(bench, subjects, compiled('traffic'));
    await composeRow(bench, subjects);
    await healthRow(bench, subjects);
    await streamRows(bench, subjects);
    await pullRows(bench, subjects, podman);
    await copyRows(bench, subjects);
    memoryRows(bench, subjects, idle);
  } finally {
    await caisson.stop();
    await dockerd.stop();
  }
}
