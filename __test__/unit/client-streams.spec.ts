/** The library against a scripted daemon: frames, progress, errors, aborts. */
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, expectTypeOf, it } from 'vitest';
import { parseAddress } from '../../ts/client/address.ts';
import { demultiplex, type Frame, jsonLines } from '../../ts/client/frames.ts';
import { Caisson } from '../../ts/client/index.ts';
import { defaultTls } from '../../ts/client/tls.ts';
import { TestAuthority } from '../helpers/certificates.ts';
import { missing } from '../helpers/requires.ts';

function frame(stream: number, data: string | Buffer): Buffer {
  const payload = Buffer.from(data);
  const header = Buffer.alloc(8);
  header[0] = stream;
  header.writeUInt32BE(payload.length, 4);
  return Buffer.concat([header, payload]);
}

async function* chunksOf(data: Buffer, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < data.length; at += size) yield data.subarray(at, at + size);
}

async function collect(frames: AsyncIterable<Frame>): Promise<{ stdout: string; stderr: string; frames: number }> {
  const all = { stdout: '', stderr: '', frames: 0 };
  for await (const { stream, data } of frames) {
    all[stream] += Buffer.from(data).toString('latin1');
    all.frames++;
  }
  return all;
}

describe('frames', () => {
  const data = Buffer.concat([
    frame(1, 'out'),
    frame(2, ''),
    frame(2, 'error'),
    frame(1, 'x'.repeat(1000)),
    frame(3, '!'),
  ]);

  it.each([1, 2, 3, 7, 8, 9, 100, 10_000])('are the same in chunks of %i bytes', async (size) => {
    const { stdout, stderr } = await collect(demultiplex(chunksOf(data, size)));
    expect(stdout).toBe(`out${'x'.repeat(1000)}`);
    expect(stderr).toBe('error!');
  });

  it('may be a million in one chunk', async () => {
    const many = Buffer.alloc(9_000_000);
    for (let at = 0; at < many.length; at += 9) many.set(frame(1, 'a'), at);
    expect((await collect(demultiplex(chunksOf(many, many.length)))).frames).toBe(1_000_000);
  });

  it.each([
    ['a header that is none', Buffer.from('plain text, no frames'), 'no frame'],
    ['an end within a payload', frame(1, 'abcdef').subarray(0, 10), 'ended within a frame'],
    ['an end within a header', frame(1, 'a').subarray(0, 5), 'ended within a frame'],
  ])('refuse %s', async (_what, bytes, message) => {
    await expect(collect(demultiplex(chunksOf(bytes, 64)))).rejects.toThrow(message);
  });

  it('JSON lines may be cut anywhere, even within a character', async () => {
    const bytes = Buffer.from('{"a":"ä"}\n\n{"a":2}\r\n{"a":3}');
    for (const size of [1, 2, 5, 100]) {
      const found: unknown[] = [];
      for await (const value of jsonLines(chunksOf(bytes, size))) found.push(value);
      expect(found).toEqual([{ a: 'ä' }, { a: 2 }, { a: 3 }]);
    }
  });
});

describe('engine', () => {
  let dir: string;
  let server: Server;
  let engine: Caisson;
  let answer: (request: IncomingMessage, response: ServerResponse) => void;

  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'caisson-client-'));
    server = createServer((request, response) => answer(request, response)).listen(join(dir, 's.sock'));
    await once(server, 'listening');
    engine = new Caisson({ address: `unix://${dir}/s.sock` });
  });
  afterEach(async () => {
    await engine[Symbol.asyncDispose]();
    server.closeAllConnections();
    server.close();
    rmSync(dir, { recursive: true });
  });

  it('gives the errors of the daemon', async () => {
    answer = (_request, response) =>
      response.writeHead(404).end('{"message":"No such container: x","code":"CONTAINER_NOT_FOUND","hint":"see ps"}');
    await expect(engine.containers.inspect('x')).rejects.toMatchObject({
      kind: 'NotFound',
      message: 'No such container: x',
      code: 'CONTAINER_NOT_FOUND',
      hint: 'see ps',
    });
  });

  it('says that none runs', async () => {
    await using absent = new Caisson({ address: `unix://${dir}/absent.sock` });
    await expect(absent.ping()).rejects.toMatchObject({ code: 'DAEMON_UNREACHABLE' });
  });

  it.each([
    [
      'an error in its progress',
      '{"status":"Pulling"}\n{"errorDetail":{"message":"no space"},"error":"no space"}\n',
      'no space',
    ],
    ['the old form of an error', '{"error":"gone"}\n', 'gone'],
  ])('a pull rejects at %s', async (_what, body, message) => {
    answer = (_request, response) => response.end(body);
    await expect(engine.images.pull('app')).rejects.toThrow(message);
    const seen: unknown[] = [];
    await expect(
      (async () => {
        for await (const line of engine.images.pull('app')) seen.push(line);
      })(),
    ).rejects.toThrow(message);
  });

  it('a pull rejects when the daemon goes away within it', async () => {
    answer = (_request, response) => response.write('{"status":"Pulling"}\n', () => response.destroy());
    await expect(engine.images.pull('app')).rejects.toMatchObject({ kind: 'Unavailable' });
  });

  it('a pull rejects with the reason of an abort', async () => {
    const abort = new AbortController();
    answer = (_request, response) => {
      response.write('{"status":"Pulling"}\n');
      response.once('close', () => server.emit('closed'));
    };
    const closed = once(server, 'closed');
    const reason = new Error('enough');
    await expect(
      (async () => {
        for await (const _ of engine.images.pull('app', { signal: abort.signal })) abort.abort(reason);
      })(),
    ).rejects.toBe(reason);
    await closed;
  });

  it('leaving a loop ends the request', async () => {
    answer = (_request, response) => {
      response.write(frame(1, 'line\n'));
      response.once('close', () => server.emit('closed'));
    };
    const closed = once(server, 'closed');
    for await (const { data } of engine.containers.logs('x', { tty: false, follow: true })) {
      expect(Buffer.from(data).toString()).toBe('line\n');
      break;
    }
    await closed;
  });

  it('attaches both ways and half-closes', async () => {
    server.on('upgrade', (_request, socket) => {
      socket.write('HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n');
      let input = '';
      socket.on('data', (chunk: Buffer) => {
        input += chunk.toString();
      });
      socket.on('end', () => socket.end(Buffer.concat([frame(1, input), frame(2, 'done')])));
    });
    await using session = await engine.containers.attach('x', { stdin: true, stdout: true, stderr: true, tty: false });
    const writer = session.stdin.getWriter();
    await writer.write(Buffer.from('abc'));
    await writer.write(Buffer.from('def'));
    await writer.close();
    expect(await session.text()).toEqual({ stdout: 'abcdef', stderr: 'done' });
  });

  it('has no untyped results', () => {
    expectTypeOf(engine.containers.list).returns.resolves.not.toBeAny();
    expectTypeOf(engine.containers.inspect).returns.resolves.not.toBeAny();
    expectTypeOf(engine.images.inspect).returns.resolves.not.toBeAny();
  });
});

it.each([
  ['unix:///run/a.sock', { socketPath: '/run/a.sock' }],
  ['/run/a.sock', { socketPath: '/run/a.sock' }],
  ['tcp://127.0.0.1:99', { host: '127.0.0.1', port: 99 }],
  ['tcp://[::1]', { host: '::1', port: 2375 }],
])('the address %s is %j', (text, address) => {
  expect(parseAddress(text)).toEqual(address);
});
it.each(['', 'ssh://host', 'nonsense'])('the address %j is none', (text) => {
  expect(() => parseAddress(text)).toThrow('invalid address');
});

describe.skipIf(missing('openssl'))('TLS', () => {
  const dir = mkdtempSync(join(tmpdir(), 'caisson-tls-'));
  const authority = new TestAuthority(join(dir, 'authority'));
  const [own, client] = [authority.issue('localhost'), authority.issue('client')];
  const pem = (path: string): string => readFileSync(path, 'utf8');
  const ca = pem(authority.certificate);
  const files = { cert: pem(client.certificate), key: pem(client.key) };
  const server = createTlsServer(
    { key: pem(own.key), cert: pem(own.certificate), ca, requestCert: true, rejectUnauthorized: true },
    (_request, answer) => answer.setHeader('content-type', 'application/json').end('{"Version":"1"}'),
  );
  server.on('upgrade', (_request, socket) =>
    socket.end('HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nraw'),
  );
  let address: string;
  beforeAll(async () => {
    await once(server.listen(0, '127.0.0.1'), 'listening');
    address = `tcp://localhost:${(server.address() as { port: number }).port}`;
  });
  afterAll(() => {
    server.close();
    rmSync(dir, { recursive: true });
  });

  it('carries requests and upgraded streams', async () => {
    await using engine = new Caisson({ address, tls: { ca, verify: true, ...files } });
    expect(await engine.version()).toEqual({ Version: '1' });
    await using session = await engine.containers.attach('x', { tty: true });
    expect((await session.text()).stdout).toBe('raw');
  });

  it('takes the files that docker takes', async () => {
    const env = { DOCKER_TLS_VERIFY: '1', DOCKER_CERT_PATH: dir, DOCKER_TLS_CACERT: authority.certificate };
    const named = { ...env, DOCKER_TLS_CERT: client.certificate, DOCKER_TLS_KEY: client.key };
    expect(defaultTls(named)).toEqual({ ca, verify: true, ...files });
    expect(defaultTls({})).toBeUndefined();
    expect(defaultTls({ DOCKER_TLS: '1', DOCKER_CERT_PATH: dir })).toEqual({ verify: false });
    expect(() => defaultTls({ DOCKER_TLS_VERIFY: '1', DOCKER_CERT_PATH: dir })).toThrow('ca.pem');
  });

  it('is not made with a stranger, but where that is asked for', async () => {
    await using strict = new Caisson({ address, tls: { verify: true, ...files } });
    await expect(strict.version()).rejects.toMatchObject({ code: 'DAEMON_CERTIFICATE' });
    await using trusting = new Caisson({ address, tls: { verify: false, ...files } });
    expect(await trusting.version()).toEqual({ Version: '1' });
  });
});
