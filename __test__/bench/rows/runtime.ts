/** The runtimes alone, on one bundle of a true-only program, beside the floor: whole lives, execs, and what is there already. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { defaultSection } from '../../../ts/engine/runtime/seccomp.ts';
import type { RuntimeSpec } from '../../../ts/oci.ts';
import { packageRoot } from '../../../ts/packageRoot.ts';
import { type Bench, timedMs } from '../bench.ts';

const OURS = join(packageRoot, 'build/caisson-runtime');
/** As many containers run meanwhile; what they cost the kernel, they cost the floor. */
const CROWDS = [100, 1000];
/** So many come and go at once: one after the other, the kernel's grace periods for each cgroup add up to minutes. */
const AT_ONCE = 32;

/** A bundle of one static program, with what of its configuration is to be another. */
function bundle(dir: string, args: string[], change: (spec: RuntimeSpec) => void = () => undefined): string {
  mkdirSync(join(dir, 'rootfs/bin'), { recursive: true });
  const busybox = execFileSync('sh', ['-c', 'readlink -f "$(command -v busybox)"'], { encoding: 'utf8' }).trim();
  for (const name of ['true', 'sleep']) cpSync(busybox, join(dir, 'rootfs/bin', name));
  execFileSync('runc', ['spec', '--bundle', dir]);
  const config = join(dir, 'config.json');
  const spec = JSON.parse(readFileSync(config, 'utf8')) as RuntimeSpec;
  spec.process.args = args;
  spec.process.terminal = false;
  change(spec);
  writeFileSync(config, JSON.stringify(spec));
  return dir;
}

export async function runtimeRows(bench: Bench, floor: string): Promise<void> {
  if (!bench.wanted('runtime')) return;
  const plain = bundle(join(bench.dir, 'bundle'), ['/bin/true']);
  const state = join(bench.dir, 'state');
  let n = 0;
  const line = (runtime: string, words: string[]) => ['--root', join(state, runtime.replaceAll('/', '-')), ...words];
  const call = (runtime: string, ...words: string[]): void => {
    execFileSync(runtime, line(runtime, words), { stdio: 'ignore' });
  };
  const run =
    (runtime: string, of = plain) =>
    () =>
      timedMs(() => call(runtime, 'run', '--bundle', of, `bench${n++}`));
  const work = join(bench.dir, 'floor-work');
  const bare = (): number => {
    rmSync(work, { recursive: true, force: true });
    mkdirSync(work);
    return timedMs(() => execFileSync(floor, [join(plain, 'rootfs'), work, '/bin/true'], { stdio: 'ignore' }));
  };
  const peers = ['runc', 'crun'].filter((peer) => {
    try {
      run(peer)();
      return true;
    } catch {
      console.error(`${peer} does not run here: rows left out`);
      return false;
    }
  });
  const both = (id: string, what: string) => ({ id, what, unit: 'ms', count: bench.pairCount });
  for (const [mode, gapMs] of [
    ['burst', 0],
    ['sporadic', 250],
  ] as const) {
    for (const peer of ['floor', ...peers]) {
      await bench.pairs({
        ...both(`runtime-${peer}-${mode}`, `runtime run of a true-only bundle, ${mode}`),
        peer,
        gapMs,
        ours: run(OURS),
        theirs: peer === 'floor' ? bare : run(peer),
      });
    }
  }

  const filtered = bundle(join(bench.dir, 'filtered'), ['/bin/true'], (spec) => {
    const host = { architecture: process.arch === 'arm64' ? 'aarch64' : 'x86_64', kernelVersion: release() } as const;
    spec.linux.seccomp = defaultSection(host, spec.process.capabilities?.bounding ?? []);
  });
  await bench.pairs({
    ...both('runtime-seccomp', 'runtime run under Docker’s default filter; without one'),
    peer: 'caisson-runtime',
    ours: run(OURS, filtered),
    theirs: run(OURS),
  });

  const sleeping = bundle(join(bench.dir, 'sleeping'), ['/bin/sleep', '100000']);
  const ids: string[] = [];
  const start = (runtime: string, id: string): void => call(runtime, 'run', '--detach', '--bundle', sleeping, id);
  const each = async (list: string[], ...words: string[]): Promise<void> => {
    for (let at = 0; at < list.length; at += AT_ONCE) {
      const calls = list.slice(at, at + AT_ONCE).map(async (id) => {
        const child = spawn(OURS, line(OURS, [...words, id]), { stdio: 'ignore' });
        const [code] = await once(child, 'close');
        if (code !== 0) throw new Error(`caisson-runtime ${words[0]} ${id} ended with ${code}`);
      });
      await Promise.all(calls);
    }
  };
  try {
    for (const peer of peers.filter((peer) => bench.wanted(`runtime-exec-${peer}`))) {
      for (const runtime of [OURS, peer]) start(runtime, `execs-${peer}`);
      const exec = (runtime: string) => () => timedMs(() => call(runtime, 'exec', `execs-${peer}`, '/bin/true'));
      await bench.pairs({
        ...both(`runtime-exec-${peer}`, 'runtime exec of true'),
        peer,
        ours: exec(OURS),
        theirs: exec(peer),
      });
      for (const runtime of [OURS, peer]) call(runtime, 'delete', '--force', `execs-${peer}`);
    }
    for (const crowd of CROWDS.filter((crowd) => bench.wanted(`runtime-among-${crowd}`))) {
      const more = Array.from({ length: crowd - ids.length }, (_, at) => `crowd${ids.length + at}`);
      ids.push(...more);
      await each(more, 'run', '--detach', '--bundle', sleeping);
      await bench.pairs({
        ...both(`runtime-among-${crowd}`, `runtime run of a true-only bundle while ${crowd} containers run, burst`),
        peer: 'floor',
        ours: run(OURS),
        theirs: bare,
      });
    }
  } finally {
    await each(ids, 'delete', '--force');
  }
}
