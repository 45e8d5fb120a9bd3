/** podman as a peer of the bench: with roots of its own, cgroupfs, and runc, because crun refuses hosts of cgroup v1 without hugetlb. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export class Podman {
  readonly #global: string[];
  readonly #env: NodeJS.ProcessEnv;

  constructor(dir: string) {
    mkdirSync(dir, { recursive: true });
    const networks = join(dir, 'networks');
    mkdirSync(networks);
    writeFileSync(
      join(dir, 'containers.conf'),
      `[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n[network]\nnetwork_config_dir = "${networks}"\n[engine]\n`,
    );
    this.#env = { ...process.env, CONTAINERS_CONF: join(dir, 'containers.conf') };
    this.#global = ['--root', join(dir, 'root'), '--runroot', join(dir, 'run'), '--tmpdir', join(dir, 'tmp')];
    this.#global.push('--cgroup-manager', 'cgroupfs', '--runtime', 'runc', '--events-backend', 'file');
  }

  run(...args: string[]): string {
    return execFileSync('podman', [...this.#global, ...args], {
      encoding: 'utf8',
      env: this.#env,
      maxBuffer: 1 << 30,
      stdio: ['ignore', 'pipe', 'pipe'],
    }).trim();
  }

  pull(registry: string, image: string): void {
    const name = `${registry.replace(/^https?:\/\//, '')}/library/${image}`;
    this.run('pull', '-q', '--tls-verify=false', name);
    this.run('tag', name, `localhost/${image}`);
  }
}
