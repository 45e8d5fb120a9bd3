/**
 * What a test needs of its machine, in one place. A missing need skips the test, except where CAISSON_REQUIRE is set
 * (CI sets it): there a missing need is a failure, so that no test is lost in silence.
 */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../ts/packageRoot.ts';

/** Where scripts/setup unpacks what Debian sid has and the machine has not. */
export const peersRoot = join(packageRoot, '.cache/peers/root');

/** What `docker compose` runs. */
export const COMPOSE = join(peersRoot, 'usr/libexec/docker/cli-plugins/docker-compose');

/** What `docker buildx` runs. */
export const BUILDX = join(peersRoot, 'usr/libexec/docker/cli-plugins/docker-buildx');

export const sidProgram = (name: string): string => join(peersRoot, 'usr/bin', name);

const NEEDS = {
  root: () => process.getuid?.() === 0,
  build: () =>
    ['build/addon.cjs', 'build/caisson-shim', 'dist/ts/cli/main.js'].every((f) => existsSync(join(packageRoot, f))),
  docker: () => has('docker'),
  compose: () => existsSync(COMPOSE),
  git: () => has('git'),
  buildx: () => existsSync(BUILDX),
  ssh: () => has('ssh-agent') && has('ssh-add'),
  registry: () => has('docker-registry'),
  busybox: () => existsSync('/bin/busybox') || existsSync('/usr/bin/busybox'),
  nft: () => has('nft'),
  ip: () => has('ip'),
  runc: () => has('runc'),
  podman: () => has('podman'),
  dockerd: () => existsSync(join(peersRoot, 'usr/sbin/dockerd')) && existsSync(sidProgram('containerd')),
  containerd: () => has('containerd') && has('ctr'),
  buildah: () => has('buildah'),
  umoci: () => has('umoci'),
  skopeo: () => has('skopeo'),
  crane: () => existsSync(sidProgram('crane')),
  oras: () => existsSync(sidProgram('oras')),
  openssl: () => has('openssl'),
  perl: () => has('perl'),
  cgroup2: () => existsSync('/sys/fs/cgroup/cgroup.controllers'),
  apparmor: () => existsSync('/sys/kernel/security/apparmor/.load'),
  cgroup1: () => existsSync('/sys/fs/cgroup/memory/tasks'),
} as const;

export type Need = keyof typeof NEEDS;

function has(program: string): boolean {
  try {
    execFileSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** For `describe.skipIf(missing('root', 'docker'))`. */
export function missing(...needs: Need[]): boolean {
  const lacking = needs.filter((need) => !NEEDS[need]());
  if (lacking.length > 0 && process.env['CAISSON_REQUIRE'])
    throw new Error(`this machine lacks: ${lacking.join(', ')}`);
  return lacking.length > 0;
}
