/**
 * Questions to other servers as datagrams, by sockets that many share: making one costs more than all the rest of a
 * question. Each has a port that the kernel chose at random and gives it up soon, so that nobody can guess where an answer
 * would be taken from; a question goes by any of them.
 */
import { randomInt } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import { isIPv6 } from 'node:net';

const PORT = 53;
/** For each server. */
const SOCKETS = 16;
/** Questions that a port is used for. */
const USES = 256;
const IDLE_MS = 2000;

interface Asker {
  /** Every datagram with the question's id. */
  heard: (answer: Buffer) => void;
  /** The server cannot be reached. */
  failed: (error: Error) => void;
}

export interface Asked {
  /** Sends the same once more. */
  again(): void;
  /** Nothing is heard any more. */
  end(): void;
}

class SharedSocket {
  readonly askers = new Map<number, Asker>();
  /** No further questions. */
  isSpent = false;
  readonly #socket: Socket;
  readonly #gone: () => void;
  readonly #idle: NodeJS.Timeout;
  #isOpen = true;
  #uses = 0;
  /** What waits for the socket to be connected; absent from then on. */
  #waiting: Buffer[] | undefined = [];

  /** Connected, so that a refusal is heard at once. `gone`: it is closed. */
  constructor(server: string, gone: () => void) {
    this.#gone = gone;
    this.#idle = setTimeout(() => this.#closeIdle(), IDLE_MS).unref();
    this.#socket = createSocket(isIPv6(server) ? 'udp6' : 'udp4').unref();
    this.#socket.on('error', (error) => this.#fail(error));
    this.#socket.on('message', (answer) => {
      if (answer.length >= 2) this.askers.get(answer.readUInt16BE(0))?.heard(answer);
    });
    this.#socket.connect(PORT, server, (error?: Error) => {
      const waiting = this.#waiting ?? [];
      this.#waiting = undefined;
      // no route to it: said here, and not by the event
      if (error) return this.#fail(error);
      for (const query of waiting) this.#socket.send(query);
    });
  }

  ask(id: number, query: Buffer, asker: Asker): Asked {
    this.askers.set(id, asker);
    this.isSpent ||= ++this.#uses >= USES;
    const send = (): void => {
      if (this.askers.get(id) !== asker) return;
      if (this.#waiting) this.#waiting.push(query);
      else this.#socket.send(query);
    };
    send();
    return {
      again: send,
      end: () => {
        if (this.askers.get(id) !== asker) return;
        this.askers.delete(id);
        if (this.askers.size > 0) return;
        if (this.isSpent) this.#close();
        else this.#idle.refresh();
      },
    };
  }

  #fail(error: Error): void {
    const failed = [...this.askers.values()];
    this.askers.clear();
    this.#close();
    for (const asker of failed) asker.failed(error);
  }

  #closeIdle(): void {
    if (this.askers.size === 0) this.#close();
  }

  #close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.isSpent = true;
    clearTimeout(this.#idle);
    this.#socket.close();
    this.#gone();
  }
}

const sockets = new Map<string, SharedSocket[]>();

/** `query`: with an id that nobody can guess. */
export function askByDatagram(query: Buffer, server: string, asker: Asker): Asked {
  const id = query.readUInt16BE(0);
  const own = sockets.get(server) ?? [];
  const usable = own.filter((socket) => !socket.isSpent && !socket.askers.has(id));
  const chosen = usable.length < SOCKETS ? open(server) : usable[randomInt(usable.length)];
  return (chosen ?? open(server)).ask(id, query, asker);
}

function open(server: string): SharedSocket {
  const socket = new SharedSocket(server, () => {
    const left = (sockets.get(server) ?? []).filter((other) => other !== socket);
    if (left.length > 0) sockets.set(server, left);
    else sockets.delete(server);
  });
  sockets.set(server, [...(sockets.get(server) ?? []), socket]);
  return socket;
}
