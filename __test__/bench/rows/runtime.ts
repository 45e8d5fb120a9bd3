/** The runtimes alone, on one bundle of a true-only program, beside the floor. */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../../ts/packageRoot.ts';
import { type Bench, timedMs } from '../bench.ts';

function trueBundle(dir: string): string {
  const bundle = join(dir, 'bundle');
  mkdirSync(join(bundle, 'rootfs/bin'), { recursive: true });
  const busybox = execFileSync('sh', ['-c', 'readlink -f "$(command -v busybox)"'], { encoding: 'utf8' }).trim();
  cpSync(busybox, join(bundle, 'rootfs/bin/true'));
  execFileSync('runc', ['spec', '--bundle', bundle]);
  const config = JSON.parse(readFileSync(join(bundle, 'config.json'), 'utf8')) as {
    process: { args: string[]; terminal: boolean };
  };
  config.process.args = ['/bin/true'];
  config.process.terminal = false;
  writeFileSync(join(bundle, 'config.json'), JSON.stringify(config));
  return bundle;
}

export async function runtimeRows(bench: Bench, floor: string): Promise<void> {
  if (!bench.wanted('runtime')) return;
  const bundle = trueBundle(bench.dir);
  let n = 0;
  const run = (runtime: string) => () =>
    timedMs(() =>
      execFileSync(runtime, ['--root', join(bench.dir, 'state'), 'run', '--bundle', bundle, `bench${n++}`], {
        stdio: 'ignore',
      }),
    );
  const work = join(bench.dir, 'floor-work');
  const bare = (): number => {
    rmSync(work, { recursive: true, force: true });
    mkdirSync(work);
    return timedMs(() => execFileSync(floor, [join(bundle, 'rootfs'), work, '/bin/true'], { stdio: 'ignore' }));
  };
  const peers: [string, () => number][] = [['floor', bare]];
  for (const peer of ['runc', 'crun']) {
    try {
      run(peer)();
      peers.push([peer, run(peer)]);
    } catch {
      console.error(`${peer} does not run here: row left out`);
    }
  }
  for (const [mode, gapMs] of [
    ['burst', 0],
    ['sporadic', 250],
  ] as const) {
    for (const [peer, theirs] of peers) {
      await bench.pairs({
        id: `runtime-${peer}-${mode}`,
        what: `runtime run of a true-only bundle, ${mode}`,
        unit: 'ms',
        peer,
        count: bench.pairCount,
        gapMs,
        ours: run(join(packageRoot, 'build/caisson-runtime')),
        theirs,
      });
    }
  }
}
