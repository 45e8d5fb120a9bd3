/** Connections of clients that carry a container's streams: the head is written here, the rest is the shim's. */
import { writeSync } from 'node:fs';
import { CaissonError } from '../../errdefs.ts';
import { type HijackedConnection, streamHead } from '../api/hijack.ts';
import type { ClientStream } from '../native/containers.ts';

/** Docker's default, ctrl-p ctrl-q. */
const DEFAULT_DETACH_KEYS = [16, 17];

const CONTROL: Record<string, number> = { '@': 0, '[': 27, '\\': 28, ']': 29, '^': 30, _: 31 };

/** `ctrl-p,ctrl-q`, `a`, `ctrl-^` → bytes. */
export function parseDetachKeys(text: string): number[] {
  if (text === '') return DEFAULT_DETACH_KEYS;
  return text.split(',').map((key) => {
    if (key.length === 1) return key.charCodeAt(0);
    const control = /^ctrl-([a-z@[\\\]^_])$/.exec(key)?.[1];
    if (control === undefined) throw new CaissonError('InvalidParameter', `Unknown character: '${key}' in detach keys`);
    return CONTROL[control] ?? control.charCodeAt(0) - 96;
  });
}

export interface StreamChoice {
  stdin: boolean;
  stdout: boolean;
  stderr: boolean;
  tty: boolean;
  detachKeys: number[];
  /** The client has its answer already. */
  answered?: boolean;
  /** API 1.42 and newer name the framed form by a content type of its own. */
  namesFraming: boolean;
}

/**
 * Answers the client now, before the stream has a source: the docker client waits for this head before it goes on to
 * start the container. A connection's send buffer is empty here, so the few bytes never block.
 */
export function openStream(connection: HijackedConnection, choice: StreamChoice): ClientStream {
  const stream = describeStream(connection, choice);
  if (!choice.answered) writeSync(connection.fd, stream.head);
  return { ...stream, head: '' };
}

/** The head is written by whoever has the stream's source. */
export function describeStream(connection: HijackedConnection, choice: StreamChoice): ClientStream {
  // as dockerd: only the answer to an upgrade names it
  const multiplexed = connection.upgraded && !choice.tty && choice.namesFraming;
  const head = streamHead(
    connection.upgraded,
    multiplexed ? 'application/vnd.docker.multiplexed-stream' : 'application/vnd.docker.raw-stream',
  );
  return {
    fd: connection.fd,
    head,
    early: connection.early,
    stdin: choice.stdin,
    stdout: choice.stdout,
    stderr: choice.stderr,
    raw: choice.tty,
    detachKeys: choice.detachKeys,
  };
}

/** A message to a client whose stream never got a source, framed as stdout as Docker does. */
export function writeMessage({ fd, head, raw }: ClientStream, message: string): void {
  const text = Buffer.from(`${message}\r\n`);
  const header = Buffer.alloc(8);
  header[0] = 1;
  header.writeUInt32BE(text.length, 4);
  writeSync(fd, Buffer.concat([Buffer.from(head), raw ? Buffer.alloc(0) : header, text]));
}
