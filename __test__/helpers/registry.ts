/** Debian's docker-registry on a free port of 127.0.0.1 over a directory of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface TestRegistry extends AsyncDisposable {
  /** `http://127.0.0.1:PORT` */
  url: string;
  /** `127.0.0.1:PORT` */
  host: string;
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

export interface RegistryOptions {
  /** Paths of PEM files; with `clientCas` clients need a certificate of one of these. */
  tls?: { certificate: string; key: string; clientCas?: string[] };
  /** Lines of htpasswd (bcrypt): every request needs one of these logins. */
  htpasswd?: string;
}

export async function startRegistry({ tls, htpasswd }: RegistryOptions = {}): Promise<TestRegistry> {
  const dir = mkdtempSync(join(tmpdir(), 'caisson-registry-'));
  const port = await freePort();
  const config = join(dir, 'config.yml');
  if (htpasswd !== undefined) writeFileSync(join(dir, 'htpasswd'), htpasswd);
  writeFileSync(
    config,
    // JSON is YAML.
    JSON.stringify({
      version: '0.1',
      log: { level: 'error', accesslog: { disabled: true } },
      storage: { filesystem: { rootdirectory: `${dir}/data` }, delete: { enabled: true } },
      http: {
        addr: `127.0.0.1:${port}`,
        ...(tls && {
          tls: { certificate: tls.certificate, key: tls.key, ...(tls.clientCas && { clientcas: tls.clientCas }) },
        }),
      },
      ...(htpasswd !== undefined && { auth: { htpasswd: { realm: 'test', path: join(dir, 'htpasswd') } } }),
    }),
  );
  const child = spawn('docker-registry', ['serve', config], { stdio: ['ignore', 'ignore', 'pipe'] });
  const errors: Buffer[] = [];
  child.stderr.on('data', (chunk: Buffer) => errors.push(chunk));
  await listens(port, child, () => Buffer.concat(errors).toString());
  return {
    url: `${tls ? 'https' : 'http'}://127.0.0.1:${port}`,
    host: `127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGKILL');
        await once(child, 'exit');
      }
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** Resolves when the port takes connections; rejects when the process ends or 20 s have passed. */
async function listens(port: number, child: ChildProcess, errors: () => string): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (Date.now() < deadline) {
    if (child.exitCode !== null) throw new Error(`registry ended with ${child.exitCode}: ${errors()}`);
    const socket = connect(port, '127.0.0.1');
    const ok = await once(socket, 'connect').then(
      () => true,
      () => false,
    );
    socket.destroy();
    if (ok) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`registry does not listen on ${port}: ${errors()}`);
}
