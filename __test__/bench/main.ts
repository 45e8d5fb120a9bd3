/**
 * npm run bench [-- --pairs N] [--only ROW,…]: measures caisson beside dockerd 28.5, runc, crun and the floor program in
 * one run, in interleaved pairs, and writes BENCH.md. Needs root and what scripts/bench-peers installs.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, release, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { packageRoot } from '../../ts/packageRoot.ts';
import { buildImage, busyboxTar, pushImage } from '../helpers/image.ts';
import { startRegistry } from '../helpers/registry.ts';
import { manyFileLayers } from './big-image.ts';
import { type Daemon, processesOf, pssKib, startCaisson, startDockerd } from './daemons.ts';
import { median, quantile, ratio } from './statistics.ts';

const { values: options } = parseArgs({
  options: { pairs: { type: 'string', default: '40' }, only: { type: 'string' } },
});
const PAIRS = Number(options.pairs);
const only = options.only?.split(',');

interface Row {
  id: string;
  what: string;
  unit: string;
  ours: number[];
  theirs: number[];
  /** `dockerd / caisson`: above 1 means that caisson needs less. */
  peer: string;
}

const dir = mkdtempSync(join(tmpdir(), 'caisson-bench-'));
const client = join(dir, 'client');
const floor = join(dir, 'floor');
for (const [name, out] of [
  ['client', client],
  ['floor', floor],
] as const) {
  execFileSync('gcc', ['-O2', '-static', '-o', out, join(import.meta.dirname, `${name}.c`)]);
}
const rows: Row[] = [];
const wanted = (id: string): boolean => !only || only.some((prefix) => id.startsWith(prefix));
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const clientUs = (...args: string[]): number =>
  Number(execFileSync(client, args, { encoding: 'utf8' }).trim().split(' ').at(-1));
const docker = (daemon: Daemon, ...args: string[]): string =>
  execFileSync('docker', ['-H', `unix://${daemon.socket}`, ...args], {
    encoding: 'utf8',
    maxBuffer: 1 << 30,
    stdio: ['ignore', 'pipe', 'pipe'],
  }).trim();
const timedMs = (work: () => void): number => {
  const start = process.hrtime.bigint();
  work();
  return Number(process.hrtime.bigint() - start) / 1e6;
};

/** Interleaved pairs in random order after warm-ups; `gapMs` 0 is a burst, 250 pays the kernel's grace periods. */
async function pairs(
  id: string,
  what: string,
  unit: string,
  peer: string,
  count: number,
  gapMs: number,
  ours: () => number,
  theirs: () => number,
): Promise<void> {
  if (!wanted(id)) return;
  const row: Row = { id, what, unit, peer, ours: [], theirs: [] };
  for (let i = -2; i < count; i++) {
    const order = Math.random() < 0.5 ? (['ours', 'theirs'] as const) : (['theirs', 'ours'] as const);
    for (const side of order) {
      if (gapMs > 0) await pause(gapMs);
      const value = side === 'ours' ? ours() : theirs();
      if (i >= 0) row[side].push(value);
    }
  }
  rows.push(row);
  console.error(
    `${id.padEnd(16)} ${what}: caisson ${median(row.ours).toFixed(2)} ${unit}, ${peer} ${median(row.theirs).toFixed(2)} ${unit}, ratio ${ratio(row.theirs, row.ours).median.toFixed(2)}`,
  );
}

await using registry = await startRegistry();
const small = buildImage([await busyboxTar()]);
await pushImage(registry.url, 'library/bench', 'latest', small);
const image = 'bench:latest';
const dockerd = await startDockerd(join(dir, 'dockerd'), registry.url);
const caisson = await startCaisson(join(dir, 'caisson'), registry.url);
try {
  const idle = [dockerd, caisson].map((daemon) => daemon.processes().reduce((sum, pid) => sum + pssKib(pid), 0));
  for (const daemon of [dockerd, caisson]) docker(daemon, 'pull', '-q', image);

  for (const network of ['bridge', 'none']) {
    for (const [mode, gap] of [
      ['burst', 0],
      ['sporadic', 250],
    ] as const) {
      const one = (daemon: Daemon) => () => clientUs('lifecycle', daemon.socket, image, network) / 1000;
      await pairs(
        `1-${network}-${mode}`,
        `API create+start+wait+rm, ${network}, ${mode}`,
        'ms',
        'dockerd',
        PAIRS,
        gap,
        one(caisson),
        one(dockerd),
      );
    }
  }
  const cliRun = (daemon: Daemon) => () => timedMs(() => docker(daemon, 'run', '--rm', image, 'true'));
  await pairs('2-run', 'docker run --rm, bridge', 'ms', 'dockerd', PAIRS, 0, cliRun(caisson), cliRun(dockerd));
  const parallel = (daemon: Daemon) => () => clientUs('parallel', daemon.socket, image, 'bridge', '32') / 1000;
  await pairs(
    '3-parallel',
    '32 lifecycles at once, bridge',
    'ms',
    'dockerd',
    Math.max(3, PAIRS >> 3),
    0,
    parallel(caisson),
    parallel(dockerd),
  );

  for (const daemon of [dockerd, caisson]) docker(daemon, 'run', '-d', '--name', 'sleeper', image, 'sleep', '100000');
  const execApi = (daemon: Daemon) => () => clientUs('exec', daemon.socket, 'sleeper') / 1000;
  await pairs(
    '5-exec-api',
    'exec create+start+inspect by the API',
    'ms',
    'dockerd',
    PAIRS,
    0,
    execApi(caisson),
    execApi(dockerd),
  );
  const execCli = (daemon: Daemon) => () => timedMs(() => docker(daemon, 'exec', 'sleeper', 'true'));
  await pairs('5-exec-cli', 'docker exec', 'ms', 'dockerd', PAIRS, 0, execCli(caisson), execCli(dockerd));

  const fresh = (daemon: Daemon): string => docker(daemon, 'run', '-d', image, 'sleep', '100000');
  const removal = (daemon: Daemon) => () => clientUs('remove', daemon.socket, fresh(daemon)) / 1000;
  await pairs(
    '6-rm',
    'rm -f of a running container, until it returns',
    'ms',
    'dockerd',
    PAIRS >> 1,
    0,
    removal(caisson),
    removal(dockerd),
  );
  const stop = (daemon: Daemon) => () => {
    const id = fresh(daemon);
    const us = clientUs('stop', daemon.socket, id);
    docker(daemon, 'rm', '-f', id);
    return us / 1000;
  };
  await pairs('6-stop', 'stop of `sleep` as PID 1', 'ms', 'dockerd', 3, 0, stop(caisson), stop(dockerd));

  const logged = (daemon: Daemon) => () => {
    const id = docker(
      daemon,
      'create',
      '--network',
      'none',
      image,
      'sh',
      '-c',
      'yes 0123456789012345678901234567890123456789012345678901234567890123456789 | head -c 200000000',
    );
    const ms = timedMs(() => docker(daemon, 'start', id) && docker(daemon, 'wait', id));
    docker(daemon, 'rm', id);
    return ms;
  };
  await pairs('13-log', '200 MB of stdout into the log', 'ms', 'dockerd', 3, 0, logged(caisson), logged(dockerd));

  if (wanted('7-pull')) {
    await pushImage(registry.url, 'library/big', 'latest', buildImage(manyFileLayers()));
    const pull = (daemon: Daemon) => () => {
      const ms = timedMs(() => docker(daemon, 'pull', '-q', 'big:latest'));
      docker(daemon, 'rmi', 'big:latest');
      execFileSync('sync');
      return ms;
    };
    await pairs(
      '7-pull',
      'pull of a 1 GB, 7-layer, 45,000-file image from loopback',
      'ms',
      'dockerd',
      3,
      0,
      pull(caisson),
      pull(dockerd),
    );
  }

  if (wanted('9-idle'))
    rows.push({
      id: '9-idle',
      what: 'PSS of the idle daemon, all its processes',
      unit: 'MB',
      peer: 'dockerd+containerd',
      ours: [(idle[1] ?? 0) / 1024],
      theirs: [(idle[0] ?? 0) / 1024],
    });
  if (wanted('10-shim')) {
    const shims: Record<string, number[]> = {};
    for (const [daemon, program, mark] of [
      [caisson, 'caisson-shim', join(dir, 'caisson')],
      [dockerd, 'containerd-shim', join(dir, 'dockerd')],
    ] as const) {
      const ids = Array.from({ length: 50 }, () =>
        docker(daemon, 'run', '-d', '--network', 'none', image, 'sleep', '100000'),
      );
      shims[daemon.name] = processesOf(program, mark).map(pssKib);
      docker(daemon, 'rm', '-f', ...ids);
    }
    rows.push({
      id: '10-shim',
      what: 'PSS of a shim, mean of all with 50 more running',
      unit: 'KiB',
      peer: 'containerd-shim',
      ours: [mean(shims['caisson'] ?? [])],
      theirs: [mean(shims['dockerd'] ?? [])],
    });
  }
  for (const daemon of [dockerd, caisson]) docker(daemon, 'rm', '-f', 'sleeper');
} finally {
  await caisson.stop();
  await dockerd.stop();
}
await runtimes();
writeFileSync(join(packageRoot, 'BENCH.md'), table());
rmSync(dir, { recursive: true, force: true });

function mean(values: number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** The runtimes alone, on one bundle of a true-only program, beside the floor. */
async function runtimes(): Promise<void> {
  if (only && !only.some((prefix) => prefix.startsWith('runtime'))) return;
  const bundle = join(dir, 'bundle');
  mkdirSync(join(bundle, 'rootfs/bin'), { recursive: true });
  cpSync(
    execFileSync('sh', ['-c', 'readlink -f "$(command -v busybox)"'], { encoding: 'utf8' }).trim(),
    join(bundle, 'rootfs/bin/true'),
  );
  execFileSync('runc', ['spec', '--bundle', bundle]);
  const config = JSON.parse(readFileSync(join(bundle, 'config.json'), 'utf8')) as {
    process: { args: string[]; terminal: boolean };
  };
  config.process.args = ['/bin/true'];
  config.process.terminal = false;
  writeFileSync(join(bundle, 'config.json'), JSON.stringify(config));
  let n = 0;
  const run = (runtime: string) => () =>
    timedMs(() =>
      execFileSync(runtime, ['--root', join(dir, 'state'), 'run', '--bundle', bundle, `bench${n++}`], {
        stdio: 'ignore',
      }),
    );
  const ours = run(join(packageRoot, 'build/caisson-runtime'));
  for (const [mode, gap] of [
    ['burst', 0],
    ['sporadic', 250],
  ] as const) {
    for (const peer of ['runc', 'crun']) {
      try {
        run(peer)();
      } catch {
        console.error(`${peer} does not run here: row left out`);
        continue;
      }
      await pairs(
        `runtime-${peer}-${mode}`,
        `runtime run of a true-only bundle, ${mode}`,
        'ms',
        peer,
        PAIRS,
        gap,
        ours,
        run(peer),
      );
    }
    const work = join(dir, 'floor-work');
    const bare = (): number => {
      rmSync(work, { recursive: true, force: true });
      mkdirSync(work);
      return timedMs(() => execFileSync(floor, [join(bundle, 'rootfs'), work, '/bin/true'], { stdio: 'ignore' }));
    };
    await pairs(
      `runtime-floor-${mode}`,
      `runtime run of a true-only bundle, ${mode}`,
      'ms',
      'floor',
      PAIRS,
      gap,
      ours,
      bare,
    );
  }
}

function table(): string {
  const version = (command: string, ...args: string[]): string =>
    execFileSync(command, args, { encoding: 'utf8' }).split('\n')[0] ?? '';
  const head = `# Benchmarks

Written by \`npm run bench\`: interleaved pairs in random order in one run, medians with the 10th and 90th percentile; the ratio is the median of the pairs' ratios (peer / caisson: above 1,
caisson needs less) with its bootstrap 95 % interval. Burst: one after the other; sporadic: after 250 ms of rest, when the kernel's grace periods are paid. A static C client times the API rows.

Machine: Linux ${release()}, ${cpus().length} × ${cpus()[0]?.model ?? 'CPU'}, ${Math.round(totalmem() / 2 ** 30)} GiB, cgroup ${existsSync('/sys/fs/cgroup/cgroup.controllers') ? 'v2' : 'v1'};
Node ${process.version}; ${version(join(packageRoot, '.cache/peers/root/usr/sbin/dockerd'), '--version')}; ${version('runc', '--version')}; ${version('crun', '--version')}.

| row | measured | caisson | peer | ratio (95 %) | n |
| --- | --- | --- | --- | --- | --- |
`;
  const cell = (values: number[], unit: string): string =>
    values.length === 1
      ? `${(values[0] ?? 0).toFixed(1)} ${unit}`
      : `${median(values).toFixed(2)} ${unit} (${quantile(values, 0.1).toFixed(2)}–${quantile(values, 0.9).toFixed(2)})`;
  return (
    head +
    rows
      .map((row) => {
        const r = ratio(row.theirs, row.ours);
        const interval = row.ours.length === 1 ? '' : ` (${r.low.toFixed(2)}–${r.high.toFixed(2)})`;
        return `| ${row.id} | ${row.what} | ${cell(row.ours, row.unit)} | ${row.peer} ${cell(row.theirs, row.unit)} | **${r.median.toFixed(2)}**${interval} | ${row.ours.length} |\n`;
      })
      .join('')
  );
}
