/** What `run`, `create` and `start -a` have in common: making a container, and staying with it until it ends. */
import { writeFileSync } from 'node:fs';
import { type Caisson, CaissonError } from '../client/index.ts';
import { copyLogins, withApiSocket } from './apiSocket.ts';
import { forwardSignals, join } from './attachment.ts';
import type { ContainerFlags } from './containerFlags.ts';
import { createBody } from './createBody.ts';
import { credentialsFor } from './credentials.ts';
import { ExitCode } from './failure.ts';
import { showProgress } from './progress.ts';
import { terminalSize } from './terminal.ts';

/** Creates the container, pulling its image as `--pull` says; gives its id. */
export async function createContainer(
  engine: Caisson,
  flags: ContainerFlags,
  [image = '', ...command]: readonly string[],
  attached: { stdin: boolean; stdout: boolean; stderr: boolean },
): Promise<string> {
  const asked = createBody(flags, image, command);
  const body = flags.useApiSocket ? withApiSocket(asked) : asked;
  body.AttachStdin = attached.stdin;
  body.AttachStdout = attached.stdout;
  body.AttachStderr = attached.stderr;
  const size = terminalSize();
  if (flags.tty && size !== undefined) body.HostConfig = { ...body.HostConfig, ConsoleSize: [size.rows, size.columns] };
  const { pull = 'missing', name, platform, quiet } = flags;
  if (!['always', 'missing', 'never'].includes(pull))
    throw new CaissonError(
      'InvalidParameter',
      `invalid pull option: '${pull}': must be one of "always", "missing" or "never"`,
    );
  const fetch = async (): Promise<void> => {
    const transfer = engine.images.pull(image, { platform, credentials: credentialsFor(image) });
    await showProgress(transfer, { quiet: quiet === true });
  };
  if (pull === 'always') await fetch();
  const create = () => engine.containers.create(body, { name, platform });
  const { Id, Warnings } = await create().catch(async (error: unknown) => {
    const missing = error instanceof CaissonError && error.kind === 'NotFound' && /no such image/i.test(error.message);
    if (!missing || pull !== 'missing') throw error;
    process.stderr.write(`Unable to find image '${image}' locally\n`);
    await fetch();
    return create();
  });
  if (flags.useApiSocket) await copyLogins(engine, Id);
  if (flags.kernelMemory !== undefined)
    process.stderr.write('WARNING: --kernel-memory is ignored: kernels have no such limit any more\n');
  for (const warning of Warnings ?? []) process.stderr.write(`WARNING: ${warning}\n`);
  if (flags.cidfile !== undefined) writeFileSync(flags.cidfile, Id, { flag: 'wx' });
  return Id;
}

export interface StayOptions {
  stdin: boolean;
  stdout: boolean;
  stderr: boolean;
  tty: boolean;
  sigProxy: boolean;
  detachKeys: string | undefined;
  /** The container is removed when it ends. */
  removed: boolean;
}

/** Starts the container with our streams at its own; gives its exit code. */
export async function startAttached(engine: Caisson, id: string, options: StayOptions): Promise<number> {
  const { containers } = engine;
  const { stdin, stdout, stderr, tty } = options;
  // Both are there before the start, so that neither output nor exit can be missed.
  const [session, watched] = await Promise.all([
    containers.attach(id, { stdin, stdout, stderr, tty }),
    containers.watch(id, options.removed ? 'removed' : 'next-exit'),
  ]);
  const stop =
    options.sigProxy && !(tty && stdin) ? forwardSignals((name) => containers.kill(id, name)) : () => undefined;
  try {
    const joined = containers.start(id).then(() =>
      join(session, {
        stdin,
        tty,
        detachKeys: options.detachKeys,
        resize: (rows, columns) => containers.resize(id, rows, columns),
      }),
    );
    if ((await joined) === 'detached') {
      process.stderr.write('read escape sequence\n');
      return 0;
    }
    const { StatusCode, Error: failed } = await watched.result;
    if (failed?.Message) throw new CaissonError('System', failed.Message);
    return StatusCode;
  } finally {
    stop();
    await session[Symbol.asyncDispose]();
  }
}

/** The exit code that docker gives a container that could not be started. */
export function startFailure(error: unknown, command: string): ExitCode {
  const message = error instanceof Error ? error.message : String(error);
  const hint = error instanceof CaissonError && error.hint !== undefined ? `\nhint: ${error.hint}` : '';
  const notFound = /executable file not found|no such file or directory/i.test(message);
  const notExecutable = /permission denied|is a directory|exec format error/i.test(message);
  const fromDaemon =
    error instanceof CaissonError && !error.code.startsWith('DAEMON_') ? 'Error response from daemon: ' : '';
  return new ExitCode(
    notFound ? 127 : notExecutable ? 126 : 125,
    `caisson: ${fromDaemon}${message}${hint}\n\nRun 'caisson ${command} --help' for more information`,
  );
}
