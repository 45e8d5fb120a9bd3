/** Questions passed on: to all servers at once, so that one that is dead costs nobody a timeout. */
import { randomInt } from 'node:crypto';
import { connect } from 'node:net';
import { askByDatagram } from './datagrams.ts';

const PORT = 53;
const TIMEOUT_MS = 5000;
/** A datagram may be lost: the question is asked again and again. */
const AGAIN_MS = 1500;
const MAX_SERVERS = 3;
const SERVFAIL = 2;
const REFUSED = 5;

/** Id and question are those of the query, and it is an answer. */
function answers(answer: Buffer, query: Buffer): boolean {
  const isAnswer =
    answer.length >= 12 && ((answer[2] ?? 0) & 0x80) !== 0 && answer.readUInt16BE(0) === query.readUInt16BE(0);
  if (!isAnswer) return false;
  const end = questionEnd(query);
  // some servers leave the question out of an answer that says no
  return answer.readUInt16BE(4) === 0 || sameQuestion(answer.subarray(12, end), query.subarray(12, end));
}

const sameQuestion = (a: Buffer, b: Buffer): boolean =>
  a.toString('latin1').toLowerCase() === b.toString('latin1').toLowerCase();

/** Behind name, type and class of the first question. */
function questionEnd(query: Buffer): number {
  let at = 12;
  while (at < query.length && query[at] !== 0) at += (query[at] ?? 0) + 1;
  return at + 5;
}

const isTruncated = (answer: Buffer): boolean => ((answer[2] ?? 0) & 0x02) !== 0;

/** The same without its records: there are more over TCP. */
export function truncated(answer: Buffer): Buffer {
  const head = Buffer.from(answer.subarray(0, answer.readUInt16BE(4) === 0 ? 12 : questionEnd(answer)));
  head.writeUInt16BE(head.readUInt16BE(2) | 0x0200, 2);
  head.fill(0, 6, 12);
  return head;
}

const saysNothing = (answer: Buffer): boolean => [SERVFAIL, REFUSED].includes((answer[3] ?? 0) & 0x0f);

/** The first answer that says something; else the first that was given. Undefined when there is none in time. */
export async function askUpstream(query: Buffer, servers: readonly string[]): Promise<Buffer | undefined> {
  const asked = Buffer.from(query);
  asked.writeUInt16BE(randomInt(65536), 0);
  const over = new AbortController();
  let empty: Buffer | undefined;
  const attempts = servers.slice(0, MAX_SERVERS).map(async (server) => {
    const first = await askUdp(asked, server, over.signal);
    // what does not fit into a datagram is had over TCP, from servers that can
    const answer = isTruncated(first) ? await askTcp(asked, server, over.signal).catch(() => first) : first;
    if (!saysNothing(answer)) return answer;
    empty ??= answer;
    throw new Error(`${server} says nothing`);
  });
  try {
    return withId(await Promise.any(attempts), query);
  } catch {
    return empty && withId(empty, query);
  } finally {
    over.abort();
  }
}

function withId(answer: Buffer, query: Buffer): Buffer {
  const own = Buffer.from(answer);
  own.writeUInt16BE(query.readUInt16BE(0), 0);
  return own;
}

/** What gets no answer is asked again, once over TCP as well: datagrams may be lost, or not be let through at all. */
function askUdp(query: Buffer, server: string, over: AbortSignal): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const overTcp = (): void => {
      askTcp(query, server, over).then((answer) => end(() => resolve(answer)), ignore);
    };
    const timers = [
      setInterval(() => asked.again(), AGAIN_MS),
      setTimeout(overTcp, AGAIN_MS),
      setTimeout(() => end(() => reject(new Error(`${server} does not answer`))), TIMEOUT_MS),
    ];
    let ended = false;
    const end = (settle: () => void): void => {
      if (ended) return;
      ended = true;
      for (const timer of timers) clearTimeout(timer);
      asked.end();
      settle();
    };
    const asked = askByDatagram(query, server, {
      heard: (answer) => {
        if (answers(answer, query)) end(() => resolve(answer));
      },
      failed: (error) => end(() => reject(error)),
    });
    over.addEventListener('abort', () => end(() => reject(new Error('answered by another'))), { once: true });
  });
}

/** The datagram's own time is what ends it. */
const ignore = (): void => undefined;

function askTcp(query: Buffer, server: string, over: AbortSignal): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port: PORT, host: server, signal: over });
    socket.setTimeout(TIMEOUT_MS, () => socket.destroy(new Error(`${server} does not answer`)));
    let received: Buffer = Buffer.alloc(0);
    socket.on('connect', () => socket.write(framed(query)));
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      if (received.length < 2 || received.length < 2 + received.readUInt16BE(0)) return;
      const answer = received.subarray(2, 2 + received.readUInt16BE(0));
      socket.destroy();
      if (answers(answer, query)) resolve(answer);
      else reject(new Error(`${server} answers another question`));
    });
    socket.on('error', reject);
    socket.on('close', () => reject(new Error(`${server} closed the connection`)));
  });
}

/** A message over TCP: its length goes before it. */
export function framed(message: Buffer): Buffer {
  const head = Buffer.alloc(2);
  head.writeUInt16BE(message.length);
  return Buffer.concat([head, message]);
}
