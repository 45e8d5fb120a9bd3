/** RUN: a command in a container of its own, whose changes become the step's layer. */
import { once } from 'node:events';
import { Socket } from 'node:net';
import { StringDecoder } from 'node:string_decoder';
import { CaissonError, isKind } from '../../errdefs.ts';
import type { CreateBody } from '../api/schemas/containers.ts';
import type { Containers } from '../containers/containers.ts';
import { shortId } from '../images/progress.ts';
import type { Native } from '../native/index.ts';
import type { StepReport } from './report.ts';

/** A command's own failure: its exit code is what the client's CLI ends with. */
export class CommandFailed extends CaissonError {
  readonly command: readonly string[];
  readonly exitCode: number;

  constructor(command: readonly string[], exitCode: number) {
    super('InvalidParameter', `The command '${command.join(' ')}' returned a non-zero code: ${exitCode}`, {
      code: 'BUILD_COMMAND_FAILED',
    });
    this.command = command;
    this.exitCode = exitCode;
  }
}

/** The containers of one stage. */
export class StepContainers {
  readonly #containers: Containers;
  readonly #native: Native;
  readonly #left = new Set<string>();

  constructor(containers: Containers, native: Native) {
    this.#containers = containers;
    this.#native = native;
  }

  /** Runs to the end; resolves with the directory of what it changed, which is there until `remove`. */
  async run(
    body: CreateBody,
    { cmd, secretEnv }: { cmd: readonly string[]; secretEnv: readonly string[] },
    report: StepReport,
    signal: AbortSignal,
  ): Promise<string> {
    const { id, warnings } = await this.#containers.create(body, { name: '', ofBuild: true });
    this.#left.add(id);
    for (const warning of warnings) report.note(` ---> [Warning] ${warning}`);
    report.note(` ---> Running in ${shortId(id)}`);
    signal.throwIfAborted();
    const onAbort = (): void => void this.#containers.kill(id, 'KILL').catch(() => undefined);
    signal.addEventListener('abort', onAbort, { once: true });
    const [ours, theirs] = this.#native.socketPair();
    const output = new Socket({ fd: ours });
    try {
      const ended = this.#containers.wait(id, 'next-exit', signal);
      ended.catch(() => undefined);
      await this.#attach(id, theirs);
      const told = tell(output, report);
      await this.#containers.start(id, { secretEnv });
      const [{ exitCode }] = await Promise.all([ended, told]);
      signal.throwIfAborted();
      if (exitCode !== 0) throw new CommandFailed(cmd, exitCode);
      return this.#containers.archives.committable(id).upper;
    } finally {
      signal.removeEventListener('abort', onAbort);
      output.destroy();
    }
  }

  /** Removes those that are left. */
  async remove(report?: StepReport): Promise<void> {
    for (const id of this.#left) {
      this.#left.delete(id);
      try {
        await this.#containers.remove(id, { force: true, volumes: true });
        report?.note(` ---> Removed intermediate container ${shortId(id)}`);
      } catch (error) {
        if (isKind(error, 'NotFound')) continue;
        report?.note(`Removing intermediate container ${shortId(id)}: ${(error as Error).message}`);
      }
    }
  }

  /** They are the user's from here on, to look at what went wrong. */
  async keep(): Promise<void> {
    for (const id of this.#left) await this.#containers.keepOfBuild(id);
    this.#left.clear();
  }

  async #attach(id: string, fd: number): Promise<void> {
    await this.#containers.attach(
      this.#containers.record(id),
      { fd, early: new Uint8Array(), upgraded: false },
      { stdin: false, stdout: true, stderr: true, tty: false, detachKeys: [], answered: true, namesFraming: false },
      { goesOn: true },
    );
  }
}

/** Docker's frames out of the stream. */
async function tell(stream: Socket, report: StepReport): Promise<void> {
  const decoders = [new StringDecoder('utf8'), new StringDecoder('utf8')];
  let rest = Buffer.alloc(0);
  stream.on('error', () => undefined);
  stream.on('data', (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk]);
    while (rest.length >= 8 && rest.length >= 8 + rest.readUInt32BE(4)) {
      const end = 8 + rest.readUInt32BE(4);
      const isError = rest[0] === 2;
      const text = decoders[isError ? 1 : 0]?.write(rest.subarray(8, end)) ?? '';
      if (text !== '') report.output(isError, text);
      rest = rest.subarray(end);
    }
  });
  await once(stream, 'close');
}
