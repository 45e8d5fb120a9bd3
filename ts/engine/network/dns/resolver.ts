/** The DNS server of one container: what it sends to 127.0.0.11:53 arrives here, over UDP and TCP. */
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { createServer, type Server, type Socket } from 'node:net';
import { type Answer, type DecodedPacket, decode, encode, type Packet, type Question } from 'dns-packet';
import { Semaphore } from '../../../async.ts';
import type { Logger } from '../../../log.ts';
import { normalAddress } from '../addresses.ts';
import type { AnswerCache } from './cache.ts';
import type { NameIndex } from './names.ts';
import { askUpstream, framed, truncated } from './upstream.ts';

const TTL_S = 600;
const PLAIN_UDP_BYTES = 512;
/** Questions of a container that other servers are asked at a time: more at once than their sockets hold would be lost there. */
const MAX_ASKED = 512;
/** With those that wait for their turn. What is beyond is not answered, nor what waits for so long that its asker has gone. */
const MAX_OPEN = 8192;
const PATIENCE_MS = 5000;
const MAX_CONNECTIONS = 64;
const IDLE_MS = 10_000;

const AUTHORITATIVE = 1 << 10;
const TRUNCATED = 1 << 9;
const RECURSION_DESIRED = 1 << 8;
const RECURSION_AVAILABLE = 1 << 7;
const [FORMAT_ERROR, SERVER_FAILURE, NOT_IMPLEMENTED] = [1, 2, 4];

export interface ResolverOptions {
  containerId: string;
  names: NameIndex;
  /** Servers to ask for what is not ours. */
  upstreams: () => string[];
  cache: AnswerCache;
  log: Logger;
}

export class Resolver {
  readonly #options: ResolverOptions;
  readonly #udp: UdpSocket;
  readonly #tcp: Server;
  readonly #connections = new Set<Socket>();
  readonly #turns = new Semaphore(MAX_ASKED);
  #open = 0;
  #turn = 0;
  #isClosed = false;

  /** Owns the descriptors from now on. */
  constructor(options: ResolverOptions, sockets: { udpFd: number; tcpFd: number }) {
    this.#options = options;
    const failed = (error: Error): void => {
      options.log.warn({ err: error, container: options.containerId }, 'a DNS socket of a container failed');
    };
    this.#udp = createSocket('udp4');
    this.#udp.on('error', failed);
    this.#udp.on('message', (query, from) => void this.#overUdp(query, from));
    this.#udp.bind({ fd: sockets.udpFd });
    this.#tcp = createServer((connection) => this.#overTcp(connection));
    this.#tcp.maxConnections = MAX_CONNECTIONS;
    this.#tcp.on('error', failed);
    this.#tcp.listen({ fd: sockets.tcpFd });
    // containers alone keep no daemon alive
    this.#udp.unref();
    this.#tcp.unref();
  }

  close(): void {
    this.#isClosed = true;
    this.#udp.close();
    this.#tcp.close();
    for (const connection of this.#connections) connection.destroy();
  }

  async #overUdp(query: Buffer, from: { address: string; port: number }): Promise<void> {
    const answer = await this.#answer(query, false);
    // the container may have ended meanwhile: a datagram is lost, as everywhere
    if (answer && !this.#isClosed) this.#udp.send(answer, from.port, from.address, () => undefined);
  }

  #overTcp(connection: Socket): void {
    this.#connections.add(connection);
    connection.on('close', () => this.#connections.delete(connection));
    connection.on('error', () => connection.destroy());
    connection.setTimeout(IDLE_MS, () => connection.destroy());
    let received: Buffer = Buffer.alloc(0);
    connection.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
        const query = received.subarray(2, 2 + received.readUInt16BE(0));
        received = received.subarray(2 + query.length);
        void this.#answer(Buffer.from(query), true).then((answer) => answer && connection.write(framed(answer)));
      }
    });
  }

  async #answer(query: Buffer, tcp: boolean): Promise<Buffer | undefined> {
    let packet: DecodedPacket;
    try {
      packet = decode(query);
    } catch {
      return query.length < 12 ? undefined : header(query, FORMAT_ERROR);
    }
    if (packet.type !== 'query') return undefined;
    const [question, second] = packet.questions ?? [];
    if (!question || second) return header(query, FORMAT_ERROR);
    if (((packet.flags ?? 0) >> 11) & 0xf) return header(query, NOT_IMPLEMENTED);
    const own = this.#own(question);
    if (own) return reply(packet, question, own, tcp);
    const answer = await this.#forward(query);
    return answer && !tcp && answer.length > roomOf(packet) ? truncated(answer) : answer;
  }

  /** Answers about names of ours; undefined for others. */
  #own(question: Question): Answer[] | undefined {
    const { containerId, names } = this.#options;
    const name = question.name.toLowerCase().replace(/\.$/, '');
    if (question.type === 'PTR') {
      const address = addressOf(name);
      const owner = address && names.nameOf(containerId, address);
      return owner ? [{ type: 'PTR', name: question.name, ttl: TTL_S, data: owner }] : undefined;
    }
    const found = names.find(containerId, name);
    if (!found) return undefined;
    const answer = (type: 'A' | 'AAAA', data: string): Answer => ({ type, name: question.name, ttl: TTL_S, data });
    const v4 = found.v4.map((address) => answer('A', address));
    const v6 = found.v6.map((address) => answer('AAAA', address));
    const wanted = { A: v4, AAAA: v6, ANY: [...v4, ...v6] }[question.type as string] ?? [];
    // each asker begins with another one
    const first = wanted.length > 1 ? this.#turn++ % wanted.length : 0;
    return [...wanted.slice(first), ...wanted.slice(0, first)];
  }

  async #forward(query: Buffer): Promise<Buffer | undefined> {
    const { containerId, names, upstreams, cache } = this.#options;
    if (names.isConfined(containerId)) return header(query, SERVER_FAILURE);
    const servers = upstreams();
    const known = cache.get(query, servers);
    if (known) return known;
    if (this.#open >= MAX_OPEN) return undefined;
    this.#open++;
    const came = performance.now();
    try {
      return await this.#turns.run(async () => {
        if (performance.now() - came > PATIENCE_MS) return undefined;
        const answer = await askUpstream(query, servers);
        if (answer) cache.put(query, servers, answer);
        return answer ?? header(query, SERVER_FAILURE);
      });
    } finally {
      this.#open--;
    }
  }
}

/** An answer without records. */
function header(query: Buffer, code: number): Buffer {
  const answer = Buffer.alloc(12);
  query.copy(answer, 0, 0, 2);
  const flags = query.readUInt16BE(2) & (0x7800 | RECURSION_DESIRED);
  answer.writeUInt16BE(0x8000 | flags | RECURSION_AVAILABLE | code, 2);
  return answer;
}

function reply(query: DecodedPacket, question: Question, records: Answer[], tcp: boolean): Buffer {
  const desired = (query.flags ?? 0) & RECURSION_DESIRED;
  const packet = (answers: Answer[], more: number): Packet => ({
    type: 'response',
    ...(query.id === undefined ? {} : { id: query.id }),
    flags: AUTHORITATIVE | RECURSION_AVAILABLE | desired | more,
    questions: [question],
    answers,
  });
  const whole = encode(packet(records, 0));
  return tcp || whole.length <= roomOf(query) ? whole : encode(packet([], TRUNCATED));
}

/** Bytes of a datagram that the asker takes. */
function roomOf({ additionals }: DecodedPacket): number {
  const option = additionals?.find(({ type }) => type === 'OPT');
  return option && 'udpPayloadSize' in option ? Math.max(PLAIN_UDP_BYTES, option.udpPayloadSize) : PLAIN_UDP_BYTES;
}

/** `4.3.2.1.in-addr.arpa` → `1.2.3.4`, and the like of IPv6. */
export function addressOf(name: string): string | undefined {
  const v4 = /^((?:\d{1,3}\.){4})in-addr\.arpa$/.exec(name)?.[1];
  const v6 = /^((?:[0-9a-f]\.){32})ip6\.arpa$/.exec(name)?.[1];
  try {
    if (v4) return normalAddress(v4.slice(0, -1).split('.').reverse().join('.'));
    if (v6)
      return normalAddress(
        v6
          .replaceAll('.', '')
          .split('')
          .reverse()
          .join('')
          .replace(/(.{4})(?=.)/g, '$1:'),
      );
  } catch {
    // numbers beyond 255
  }
  return undefined;
}
