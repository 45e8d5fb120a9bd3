/**
 * The daemon that a table of tests is asked of: one of ours, or with CAISSON_SUBJECT=unix:///…/docker.sock that one
 * (dockerd 28.5.2 passes them: a row that only we pass is wrong).
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../../ts/packageRoot.ts';
import { type CommandResult, run, TestDaemon } from './daemon.ts';
import { busyboxTar } from './image.ts';
import { oracle } from './oracle.ts';

export const FOREIGN = process.env['CAISSON_SUBJECT'];

const CLIS = { docker: ['docker'], caisson: [join(packageRoot, 'bin/caisson')] };
export type Cli = keyof typeof CLIS;

export class Subject {
  /** Absent: a daemon that is not ours. */
  readonly daemon: TestDaemon | undefined;
  /** For files of the test. */
  readonly dir: string;
  readonly env: NodeJS.ProcessEnv;
  /** A root filesystem with busybox, for `docker import`. */
  readonly archive: string;

  private constructor(daemon: TestDaemon | undefined, dir: string) {
    this.daemon = daemon;
    this.dir = dir;
    this.archive = join(dir, 'root.tar');
    const host = FOREIGN ?? `unix://${daemon?.socket}`;
    this.env = { ...process.env, DOCKER_HOST: host, CAISSON_HOST: host, DOCKER_CONFIG: join(dir, 'config') };
  }

  /** `files`: of the archive, beside busybox; `flags`: of our daemon. */
  static async open(files: Record<string, string> = {}, flags: string[] = []): Promise<Subject> {
    const dir = mkdtempSync(join(tmpdir(), 'caisson-subject-'));
    const subject = new Subject(FOREIGN === undefined ? await new TestDaemon(flags).start() : undefined, dir);
    mkdirSync(join(dir, 'config'));
    writeFileSync(subject.archive, await busyboxTar(files));
    return subject;
  }

  /** The words that begin a command line. */
  command(name: Cli): [program: string, ...args: string[]] {
    const [program = '', ...args] = CLIS[name];
    return [program, ...args];
  }

  cli(name: Cli, args: string[], input: string | Buffer = ''): Promise<CommandResult> {
    const [program, ...before] = this.command(name);
    return run(program, [...before, ...args], { env: this.env, input });
  }

  docker(...args: string[]): Promise<CommandResult> {
    return this.cli('docker', args);
  }

  /** Trimmed output; an error unless the exit code is 0. */
  async ok(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.docker(...args);
    if (code !== 0) throw new Error(`docker ${args.join(' ')}: ${code}\n${stderr}${stdout}`);
    return stdout.trim();
  }

  /** Gives what leaked. `leave`: what takes the test's objects off a daemon that is not ours. */
  async close(leave: string[][]): Promise<string[]> {
    const leaked = this.daemon ? await oracle(this.daemon) : [];
    if (this.daemon) await this.daemon[Symbol.asyncDispose]();
    else for (const args of leave) await this.docker(...args);
    rmSync(this.dir, { recursive: true, force: true });
    return leaked;
  }
}
