/** docker with buildx and compose, before a daemon that a table of tests is asked of (subject.ts). */
import { mkdirSync, mkdtempSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type CommandResult, run } from './daemon.ts';
import { BUILDX, COMPOSE } from './requires.ts';
import { FOREIGN, Subject } from './subject.ts';

/** An image with busybox. */
export const BASE = 'buildkit.test/busybox:1';

export class Buildx {
  readonly subject: Subject;
  readonly env: NodeJS.ProcessEnv;

  private constructor(subject: Subject) {
    this.subject = subject;
    // buildx keeps its state there
    this.env = { ...subject.env, HOME: subject.dir, BUILDX_CONFIG: join(subject.dir, 'buildx') };
  }

  static async open(): Promise<Buildx> {
    const subject = await Subject.open({ '/etc/group': 'root:x:0:\n' });
    const plugins = join(subject.dir, 'config/cli-plugins');
    mkdirSync(plugins, { recursive: true });
    symlinkSync(BUILDX, join(plugins, 'docker-buildx'));
    symlinkSync(COMPOSE, join(plugins, 'docker-compose'));
    await subject.ok('import', subject.archive, BASE);
    return new Buildx(subject);
  }

  /** A directory with these files; one that is called `run` can be executed. */
  context(files: Record<string, string>): string {
    const dir = mkdtempSync(join(this.subject.dir, 'context-'));
    for (const [name, content] of Object.entries(files)) {
      mkdirSync(dirname(join(dir, name)), { recursive: true });
      writeFileSync(join(dir, name), content, { mode: name.endsWith('/run') ? 0o755 : 0o644 });
    }
    return dir;
  }

  docker(cwd: string, args: string[], input: string | Buffer = ''): Promise<CommandResult> {
    return run('docker', args, { env: this.env, cwd, input });
  }

  build(cwd: string, ...flags: string[]): Promise<CommandResult> {
    return this.docker(cwd, ['build', '--progress=plain', ...flags, '.']);
  }

  /** Gives what leaked. */
  async close(): Promise<string[]> {
    const images = (await this.subject.docker('images', '-aq')).stdout.split('\n');
    return this.subject.close(FOREIGN ? [['rmi', '-f', ...new Set(images)]] : []);
  }
}
