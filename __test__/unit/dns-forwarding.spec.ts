/** Questions that are passed on: to several servers at once, over TCP where needed, and answers that are kept. */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { type Answer, decode, encode } from 'dns-packet';
import { afterEach, describe, expect, test } from 'vitest';
import { AnswerCache } from '../../ts/engine/network/dns/cache.ts';
import { askUpstream, framed, truncated } from '../../ts/engine/network/dns/upstream.ts';

const PORT = 53;
const query = (name: string, id = 7): Buffer => encode({ type: 'query', id, questions: [{ type: 'A', name }] });
const answers = (message: Buffer | undefined): unknown =>
  message && decode(message).answers?.map((one) => 'data' in one && one.data);
const record = (data: string, ttl = 60): Answer => ({ type: 'A', name: 'a.example', ttl, data });
const response = (asked: Buffer, records: Answer[], flags = 0): Buffer => {
  const { id = 0, questions = [] } = decode(asked);
  return encode({ type: 'response', id, flags, questions, answers: records });
};
const TRUNCATED = 1 << 9;
const SERVFAIL = 2;

const open: (Socket | Server)[] = [];
afterEach(() => {
  for (const one of open.splice(0)) one.close();
});

async function udp(address: string, answer: (asked: Buffer) => Buffer | undefined): Promise<string> {
  const socket = createSocket('udp4', (asked, from) => {
    const message = answer(asked);
    if (message) socket.send(message, from.port, from.address);
  });
  open.push(socket);
  socket.bind(PORT, address);
  await once(socket, 'listening');
  return address;
}

async function tcp(address: string, answer: (asked: Buffer) => Buffer): Promise<void> {
  const server = createServer((socket) =>
    socket.on('data', (data: Buffer) => socket.end(framed(answer(data.subarray(2))))),
  );
  open.push(server);
  server.listen(PORT, address);
  await once(server, 'listening');
}

describe.skipIf(process.getuid?.() !== 0)('asking', () => {
  test('the first server that says something is heard; silent, closed and unreachable ones cost nothing', async () => {
    const silent = await udp('127.88.54.1', () => undefined);
    const failing = await udp('127.88.54.2', (asked) => response(asked, [], SERVFAIL));
    const good = await udp('127.88.54.3', (asked) => response(asked, [record('192.0.2.1')]));
    expect(answers(await askUpstream(query('a.example'), [silent, failing, good]))).toEqual(['192.0.2.1']);
    expect(answers(await askUpstream(query('a.example'), ['127.88.54.9', good]))).toEqual(['192.0.2.1']);
    // an address that a socket cannot be connected to
    expect(answers(await askUpstream(query('a.example'), ['ff02::1', '255.255.255.255', good]))).toEqual(['192.0.2.1']);
    expect(await askUpstream(query('a.example'), ['255.255.255.255'])).toBeUndefined();
    const only = await askUpstream(query('a.example'), [failing]);
    expect(only && decode(only)).toMatchObject({ id: 7, rcode: 'SERVFAIL' });
  });

  test('many questions share a few ports, each with its own answer, and a question has ports to hide among', async () => {
    const ports = new Set<number>();
    const socket = createSocket('udp4', (asked, from) => {
      ports.add(from.port);
      const name = decode(asked).questions?.[0]?.name ?? '';
      const records: Answer[] = [
        { type: 'A', name, ttl: 60, data: `198.18.${name.replace(/\..*/, '').replace('-', '.')}` },
      ];
      socket.send(response(asked, records), from.port, from.address);
    });
    open.push(socket);
    socket.bind(PORT, '127.88.54.5');
    await once(socket, 'listening');
    const names = Array.from({ length: 500 }, (_, at) => `${at >> 8}-${at & 255}`);
    // the same id for all: it is another one that goes out
    const heard = await Promise.all(names.map((name) => askUpstream(query(`${name}.example`), ['127.88.54.5'])));
    expect(heard.map(answers)).toEqual(names.map((name) => [`198.18.${name.replace('-', '.')}`]));
    expect(ports.size).toBeGreaterThanOrEqual(16);
    expect(ports.size).toBeLessThan(32);
  });

  test('what does not fit into a datagram is had over TCP, and so is what datagrams do not reach', async () => {
    const many = Array.from({ length: 100 }, (_, at) => record(`192.0.2.${at}`));
    const address = await udp('127.88.54.4', (asked) => response(asked, [], TRUNCATED));
    await tcp('127.88.54.4', (asked) => response(asked, many));
    expect(answers(await askUpstream(query('a.example'), [address]))).toHaveLength(100);
    const silent = await udp('127.88.54.5', () => undefined);
    await tcp('127.88.54.5', (asked) => response(asked, [record('192.0.2.2')]));
    expect(answers(await askUpstream(query('a.example'), [silent]))).toEqual(['192.0.2.2']);
    const cut = truncated(response(query('a.example'), many));
    expect(decode(cut)).toMatchObject({ flag_tc: true, questions: [{ name: 'a.example' }], answers: [] });
  });
});

describe('kept answers', () => {
  const servers = ['192.0.2.53'];
  const asked = query('a.example');
  const clock = { ms: 0 };
  const cache = (): AnswerCache => {
    clock.ms = 0;
    return new AnswerCache(() => clock.ms);
  };

  test('last as long as their shortest record, which shows the time that is left', () => {
    const kept = cache();
    kept.put(asked, servers, response(asked, [record('192.0.2.1', 60), record('192.0.2.2', 30)]));
    clock.ms = 10_000;
    const found = kept.get(query('a.example', 9), servers);
    expect(found && decode(found)).toMatchObject({ id: 9, answers: [{ ttl: 50 }, { ttl: 20 }] });
    expect(kept.get(query('A.example'), servers)).toBeUndefined();
    expect(kept.get(asked, ['192.0.2.54'])).toBeUndefined();
    clock.ms = 30_000;
    expect(kept.get(asked, servers)).toBeUndefined();
  });

  test.each([
    ['failures', response(asked, [], SERVFAIL)],
    ['what is cut off', response(asked, [record('192.0.2.1')], TRUNCATED)],
    ['what is to be asked each time', response(asked, [record('192.0.2.1', 0)])],
    ['nothing', response(asked, [])],
    ['a broken message', response(asked, [record('192.0.2.1')]).subarray(0, 40)],
  ])('%s are not kept', (_, answer) => {
    const kept = cache();
    kept.put(asked, servers, answer);
    expect(kept.get(asked, servers)).toBeUndefined();
  });

  test('a name that is not there is asked for again soon, and room is bounded', () => {
    const kept = cache();
    const none = encode({
      ...{ type: 'response', id: 7, flags: 3, questions: [{ type: 'A', name: 'a.example' }] },
      authorities: [
        {
          ...{ type: 'SOA', name: 'example', ttl: 3600 },
          data: { mname: 'ns', rname: 'root', serial: 1, refresh: 1, retry: 1, expire: 1, minimum: 3600 },
        },
      ],
    });
    kept.put(asked, servers, none);
    clock.ms = 29_000;
    expect(kept.get(asked, servers)).toBeDefined();
    clock.ms = 30_000;
    expect(kept.get(asked, servers)).toBeUndefined();
    const name = (at: number): Buffer => query(`n${at}.example`);
    for (let at = 0; at < 2001; at++) kept.put(name(at), servers, response(name(at), [record('192.0.2.1')]));
    expect(kept.get(name(0), servers)).toBeUndefined();
    expect(kept.get(name(2000), servers)).toBeDefined();
  });
});
