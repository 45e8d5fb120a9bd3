/** Clients that hold connections of a daemon and do not read: followers of a log, readers of events, idle ones. */
import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { connect, type Socket } from 'node:net';

export interface CrowdSize {
  /** Half of them have asked for something before. */
  idle: number;
  /** `logs --follow` of a log that does not fit into a socket. */
  logs: number;
  /** From the first event on, and from now on. */
  events: number;
}

/** Connections that may wait to be accepted; the kernel refuses those beyond its backlog. */
const QUEUED = 100;

export class Crowd {
  readonly #socketPath: string;
  readonly #sockets: Socket[] = [];

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  async gather({ idle, logs, events }: CrowdSize, container: string): Promise<void> {
    for (let at = 0; at < idle; at++) await this.#join(at % 2 ? '/_ping' : undefined);
    for (let at = 0; at < logs; at++) await this.#join(`/containers/${container}/logs?stdout=1&follow=1`);
    for (let at = 0; at < events; at++) await this.#join(at % 2 ? '/events' : '/events?since=1');
  }

  get size(): number {
    return this.#sockets.length;
  }

  /** Who comes last has been answered: all before are accepted. */
  async #accepted(): Promise<void> {
    using prober = new Prober(this.#socketPath);
    await prober.ask('GET', '/_ping');
  }

  async #join(path: string | undefined): Promise<void> {
    const socket = connect(this.#socketPath);
    // before it is connected: nothing is ever read
    socket.pause();
    socket.on('error', () => undefined);
    await once(socket, 'connect');
    if (path !== undefined) socket.write(`GET ${path} HTTP/1.1\r\nHost: d\r\n\r\n`);
    this.#sockets.push(socket);
    if (this.#sockets.length % QUEUED === 0) await this.#accepted();
  }

  [Symbol.dispose](): void {
    for (const socket of this.#sockets.splice(0)) socket.destroy();
  }
}

/** How long a request took, in ms, on a connection that is kept. */
export class Prober {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 });
  readonly #socketPath: string;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  ask(method: string, path: string): Promise<{ status: number; ms: number }> {
    const begun = performance.now();
    return new Promise((resolve, reject) => {
      const sent = request({ socketPath: this.#socketPath, agent: this.#agent, method, path }, (response) => {
        response.resume();
        response.on('end', () => resolve({ status: response.statusCode ?? 0, ms: performance.now() - begun }));
        response.on('error', reject);
      });
      sent.on('error', reject);
      sent.end();
    });
  }

  [Symbol.dispose](): void {
    this.#agent.destroy();
  }
}

/** What a daemon must answer whoever else is there; the container is one that runs. */
export const controlRequests = (container: string): [method: string, path: string][] => [
  ['GET', '/_ping'],
  ['GET', '/version'],
  ['GET', '/containers/json?all=1'],
  ['GET', `/containers/${container}/json`],
  // also an event for those who follow them
  ['POST', `/containers/${container}/kill?signal=CONT`],
];
