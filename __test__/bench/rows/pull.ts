/** Row 7: pull of a large image with many files from a registry on loopback. */
import { execFileSync } from 'node:child_process';
import { buildImage, pushImage } from '../../helpers/image.ts';
import { type Bench, docker, type Subjects, timedMs } from '../bench.ts';
import { manyFileLayers } from '../big-image.ts';
import type { Daemon } from '../daemons.ts';
import type { Podman } from '../podman.ts';

export async function pullRows(bench: Bench, { caisson, dockerd, registry }: Subjects, podman: Podman): Promise<void> {
  // save and load take this image too
  if (!['7-pull', 'save', 'load'].some((id) => bench.wanted(id))) return;
  await pushImage(registry, 'library/big', 'latest', buildImage(manyFileLayers()));
  // each side starts with nothing dirty in the page cache, or it pays for the other's writes
  const settled = (pull: () => void, remove: () => void): number => {
    execFileSync('sync');
    const ms = timedMs(pull);
    remove();
    return ms;
  };
  const pull = (daemon: Daemon) => () =>
    settled(
      () => docker(daemon, 'pull', '-q', 'big:latest'),
      () => docker(daemon, 'rmi', 'big:latest'),
    );
  const base = { unit: 'ms', count: 3, ours: pull(caisson) };
  const what = 'pull of a 1 GB, 7-layer, 45,000-file image from loopback';
  await bench.pairs({ ...base, id: '7-pull', what, peer: 'dockerd', theirs: pull(dockerd) });
  await bench.pairs({
    ...base,
    id: '7-pull-podman',
    what,
    peer: 'podman',
    theirs: () =>
      settled(
        () => podman.pull(registry, 'big:latest'),
        () => podman.run('rmi', '-a', '-f'),
      ),
  });
}
