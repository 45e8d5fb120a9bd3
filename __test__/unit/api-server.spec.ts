import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Type from 'typebox';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { streamHead } from '../../ts/engine/api/hijack.ts';
import { DEFAULT_GROUP, listen } from '../../ts/engine/api/listeners.ts';
import { registerRoutes } from '../../ts/engine/api/routes.ts';
import { createApiServer } from '../../ts/engine/api/server.ts';
import type { Engine } from '../../ts/engine/engine.ts';
import { CaissonError } from '../../ts/errdefs.ts';
import { createLogger } from '../../ts/log.ts';

/** The stand-in for the shim: a child that inherits the connection's fd, writes `head` and then repeats its input. */
const ECHO = `process.stdout.write(process.argv[1]); process.stdin.pipe(process.stdout)`;
/** A dup made the only way JS can: as the child's stdio. The number returned is not used. */
let child: (fd: number) => void = () => undefined;
const native = {
  dupFd: (fd: number): number => {
    child(fd);
    return -1;
  },
  socketPair: (): [number, number] => [-1, -1],
};

const dir = mkdtempSync(join(tmpdir(), 'caisson-api-'));
const socketPath = join(dir, 'api.sock');
const api = createApiServer({ log: createLogger('silent'), native, ending: new AbortController().signal });
const server = api.newServer();
let received: unknown;

beforeAll(async () => {
  const { router } = api;
  router.json({
    method: 'POST',
    path: '/things/create',
    body: Type.Object({ Name: Type.Optional(Type.String()), Inner: Type.Optional(Type.Object({ N: Type.Number() })) }),
    handle: (call) => call.status(201) && { Name: call.body.Name, all: call.query.bool('all') },
  });
  router.plain({ method: 'POST', path: '/things/:id/start', handle: () => undefined });
  router.plain({ method: 'GET', path: '/since', since: '1.44', handle: () => ({}) });
  router.plain({
    method: 'GET',
    path: '/fail',
    handle: () => {
      throw new CaissonError('NotFound', 'No such image: x', { code: 'IMAGE_NOT_FOUND', hint: 'pull it' });
    },
  });
  router.plain({ method: 'GET', path: '/rest/*', handle: (call) => ({ rest: call.param('*') }) });
  router.json({
    method: 'POST',
    path: '/things/:id/stream',
    body: Type.Object({ Tty: Type.Optional(Type.Boolean()) }),
    handle: (call) => {
      received = call.body;
      let early = '';
      child = (fd) => {
        spawn(process.execPath, ['-e', ECHO, streamHead(call.wantsUpgrade, 'application/vnd.docker.raw-stream')], {
          stdio: [fd, fd, 'inherit'],
        });
      };
      const connection = call.hijack();
      early = Buffer.from(connection.early).toString();
      received = { body: received, early, upgraded: connection.upgraded };
      return undefined;
    },
  });
  registerRoutes(router, {} as Engine);
  await api.ready();
  server.listen(socketPath);
  await once(server, 'listening');
});

afterAll(async () => {
  await api.close(1000);
  rmSync(dir, { recursive: true });
});

interface Answer {
  status: number;
  head: string;
  body: string;
}

/** Sends the parts one by one, each when the server has read the one before. */
async function send(parts: string[]): Promise<Socket> {
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  const socket = connect(socketPath);
  const [peer] = await accepted;
  let sent = 0;
  for (const part of parts) {
    socket.write(part);
    sent += Buffer.byteLength(part);
    while (peer.bytesRead < sent && !peer.destroyed) await new Promise((resolve) => setImmediate(resolve));
  }
  return socket;
}

/** Sends one request and reads to the end of the connection. */
async function raw(request: string): Promise<Answer> {
  const socket = connect(socketPath);
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk;
  });
  socket.write(request);
  await once(socket, 'close');
  const [head = '', ...rest] = text.split('\r\n\r\n');
  return { status: Number(head.split(' ')[1]), head, body: rest.join('\r\n\r\n') };
}

const get = (path: string, headers = ''): Promise<Answer> =>
  raw(`GET ${path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n${headers}\r\n`);
const post = (path: string, body: string, type = 'application/json'): Promise<Answer> =>
  raw(
    `POST ${path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: ${type}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
const message = (answer: Answer): string => (JSON.parse(answer.body) as { message: string }).message;

describe('versions and paths', () => {
  it('answers a ping, with and without version, with the headers that clients negotiate by', async () => {
    for (const path of ['/_ping', '/v1.24/_ping', '/v1.51/_ping']) {
      const answer = await get(path);
      expect(answer.status).toBe(200);
      expect(answer.body).toBe('OK');
      for (const header of ['Api-Version: 1.51', 'Docker-Experimental: false', 'Ostype: linux', 'Swarm: inactive'])
        expect(answer.head).toContain(header);
    }
  });

  it('answers OPTIONS for every path', async () => {
    const answer = await raw('OPTIONS /nope HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n');
    expect([answer.status, answer.body]).toEqual([200, '']);
  });

  it('refuses versions out of range with the sentences of Docker', async () => {
    const newer = await get('/v1.52/things');
    expect([newer.status, message(newer)]).toEqual([
      400,
      'client version 1.52 is too new. Maximum supported API version is 1.51',
    ]);
    const older = await get('/v1.23/things');
    expect([older.status, message(older)]).toEqual([
      400,
      'client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version',
    ]);
  });

  it.each(['/nope', '/v1.51/nope', '/v1.51x/_ping', '/v1.51/'])('%s is not a page', async (path) => {
    const answer = await get(path);
    expect([answer.status, message(answer)]).toEqual([404, 'page not found']);
  });

  it.each([
    '/v1.44/../v1.24/things',
    '/things//x',
    '//things',
    '/a/%2e%2e/b',
    '/a/..%2fb',
    '/a/%zz',
    '/a%00b',
    'http://other/things',
  ])('refuses the path %s', async (path) => {
    expect((await get(path)).status).toBe(400);
  });

  it('refuses two Host headers', async () => {
    expect((await get('/_ping', 'Host: e\r\n')).status).toBe(400);
  });

  it('hides a route from clients older than it', async () => {
    expect((await get('/v1.43/since')).status).toBe(404);
    expect((await get('/v1.44/since')).status).toBe(200);
    expect((await get('/since')).status).toBe(200);
  });

  it('gives the rest of a path with its slashes decoded', async () => {
    expect((await get('/rest/127.0.0.1:5000/library%2Fbusybox:1/json')).body).toBe(
      '{"rest":"127.0.0.1:5000/library/busybox:1/json"}\n',
    );
  });
});

describe('bodies', () => {
  it('takes JSON and answers with the status of the handler', async () => {
    const answer = await post('/things/create?all=True', '{"Name":"a"}');
    expect([answer.status, answer.body]).toEqual([201, '{"Name":"a","all":true}\n']);
    expect(answer.head).toMatch(/^content-type: application\/json$/im);
  });

  it('answers 204 for nothing', async () => {
    expect(await post('/things/x/start', '')).toMatchObject({ status: 204, body: '' });
  });

  it.each([
    ['{"Name":1}', 'field Name must be string'],
    ['{"Inner":{"N":"x"}}', 'field Inner.N must be number'],
    ['{"Name":"a","Name":"b"}', 'the key "Name" appears twice'],
    ['{"Inner":{"N":1,"\\u004e":2}}', 'the key "N" appears twice'],
    ['{"__proto__":{}}', 'not allowed'],
    ['{"Name":', 'invalid JSON'],
    ['', 'got EOF while reading request body'],
    ['[]', 'must be object'],
  ])('refuses %s', async (body, expected) => {
    const answer = await post('/things/create', body);
    expect(answer.status).toBe(400);
    expect(message(answer)).toContain(expected);
  });

  it('allows one key in sibling objects and in strings', async () => {
    expect((await post('/things/create', '{"Name":"{\\"Name\\":1}","x":[{"a":1},{"a":1}],"y":{"a":1}}')).status).toBe(
      201,
    );
  });

  it('refuses another content type', async () => {
    const answer = await post('/things/create', '{}', 'text/plain');
    expect([answer.status, message(answer)]).toEqual([
      400,
      "unsupported Content-Type header (text/plain): must be 'application/json'",
    ]);
  });

  it('reads a body that it refuses, so that its sender sees the answer', async () => {
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    const head =
      'POST /v1.51/things/create HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n';
    const socket = await send([`${head}{`]);
    const [peer] = await accepted;
    // an answer to the head alone would be out by now, and the connection with it
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(peer.destroyed).toBe(false);
    socket.write('}');
    let answer = '';
    for await (const chunk of socket) answer += chunk;
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
  });

  it('refuses a body over 4 MiB instead of cutting it', async () => {
    const answer = await post('/things/create', JSON.stringify({ Name: 'x'.repeat(4 * 1024 * 1024) }));
    expect(answer.status).toBe(400);
    expect(message(answer)).toContain('larger than the limit');
  });
});

describe('on TCP', () => {
  const tcp = api.newServer();
  beforeAll(async () => {
    await listen(tcp, 'tcp://127.0.0.1:0', DEFAULT_GROUP);
  });

  const status = async (headers: Record<string, string>): Promise<number> => {
    const { port } = tcp.address() as AddressInfo;
    const request = httpRequest({ port, host: '127.0.0.1', path: '/_ping', headers }).end();
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    response.resume();
    return response.statusCode ?? 0;
  };

  it('answers clients of this machine only', async () => {
    expect(await status({})).toBe(200);
    expect(await status({ host: 'localhost:1' })).toBe(200);
    expect(await status({ host: 'rebound.example' })).toBe(403);
    expect(await status({ host: '127.0.0.1.rebound.example' })).toBe(403);
    expect(await status({ origin: 'https://page.example' })).toBe(403);
  });

  it.each(['tcp://0.0.0.0:2375', 'tcp://10.0.0.1:2375', 'tcp://[::]:2375'])('does not listen on %s', async (host) => {
    await expect(listen(api.newServer(), host, DEFAULT_GROUP)).rejects.toThrow('only loopback addresses');
  });
});

describe('errors', () => {
  it('carries message, code and hint', async () => {
    const answer = await get('/fail');
    expect(answer.status).toBe(404);
    // The docker CLI shows the raw body when the type is anything else.
    expect(answer.head).toMatch(/^content-type: application\/json\r?$/im);
    expect(JSON.parse(answer.body)).toEqual({ message: 'No such image: x', code: 'IMAGE_NOT_FOUND', hint: 'pull it' });
  });

  it('says that it is no swarm manager', async () => {
    const answer = await get('/v1.51/services');
    expect(answer.status).toBe(503);
    expect(message(answer)).toMatch(/^This node is not a swarm manager\. /);
  });

  it('names an operation that it does not have', async () => {
    const answer = await post('/v1.51/plugins/create', 'x', 'application/x-tar');
    expect(answer.status).toBe(501);
    expect(message(answer)).toContain('POST /plugins/create');
  });
});

describe('hijack', () => {
  const UPGRADE =
    'POST /v1.51/things/1/stream HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\n';
  const read = async (socket: Socket, until: RegExp): Promise<string> => {
    let text = '';
    for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
      text += chunk;
      if (until.test(text)) return text;
    }
    return text;
  };

  it.each([
    ['in one packet', [`${UPGRADE}Content-Length: 12\r\n\r\n{"Tty":true}`], ''],
    ['in one packet, with early stdin', [`${UPGRADE}Content-Length: 12\r\n\r\n{"Tty":true}EARLY`], 'EARLY'],
    ['split', [`${UPGRADE}Content-Length: 12\r\n\r\n{"T`, 'ty":', 'true}'], ''],
    ['split, with early stdin', [`${UPGRADE}Content-Length: 12\r\n\r\n{"T`, 'ty":', 'true}EARLY'], 'EARLY'],
  ])('hands the connection over when the body comes %s', async (_name, parts, early) => {
    const socket = await send(parts);
    expect(await read(socket, /\r\n\r\n$/)).toMatch(/^HTTP\/1\.1 101 UPGRADED\r\n/);
    expect(received).toEqual({ body: { Tty: true }, early, upgraded: true });
    // Half-close: the write side ends, the answer still comes.
    socket.end('more');
    expect(await read(socket, /$^/)).toBe('more');
  });

  it('hands over without an upgrade too', async () => {
    const socket = connect(socketPath);
    socket.write(
      'POST /v1.51/things/1/stream HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}',
    );
    expect(await read(socket, /\r\n\r\n$/)).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    socket.end('more');
    expect(await read(socket, /$^/)).toBe('more');
    expect(received).toEqual({ body: {}, early: '', upgraded: false });
  });

  it('answers an upgrade that fails with an ordinary error and ends the connection', async () => {
    const answer = await raw(`${UPGRADE}Content-Length: 9\r\n\r\n{"Tty":1}`);
    expect(answer.status).toBe(400);
    expect(message(answer)).toContain('field Tty must be boolean');
  });
});
