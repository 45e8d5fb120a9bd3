/** `--ssh`: a socket whose connections end at the client's agent. */
import { createServer, type Socket } from 'node:net';
import { create } from '@bufbuild/protobuf';
import { Code } from '@connectrpc/connect';
import { asCaissonError } from '../../errdefs.ts';
import { Outbox } from './outbox.ts';
import { type BytesMessage, BytesMessageSchema, SSH } from './proto/ssh_pb.ts';
import { isCode, type Session } from './session.ts';

/** Resolves with how to end it; undefined when the client has no agent of this name. */
export async function forwardAgent(
  session: Session,
  id: string,
  path: string,
  signal: AbortSignal,
): Promise<(() => void) | undefined> {
  if (!session.has(`${SSH.typeName}/ForwardAgent`)) return undefined;
  try {
    await session.client(SSH).checkAgent({ ID: id });
  } catch (error) {
    if (isCode(error, Code.Unknown) || isCode(error, Code.NotFound)) return undefined;
    throw error;
  }
  const server = createServer((socket) => {
    relay(session, id, socket, signal).catch((error: unknown) => socket.destroy(asCaissonError(error)));
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(path, resolve);
  });
  return () => void server.close();
}

async function relay(session: Session, id: string, socket: Socket, signal: AbortSignal): Promise<void> {
  const outbox = new Outbox<BytesMessage>();
  socket.on('error', () => undefined);
  socket.on('data', (data: Buffer) => outbox.put(create(BytesMessageSchema, { data })));
  socket.on('close', () => outbox.end());
  const headers = new Headers({ 'buildkit.ssh.id': id });
  for await (const { data } of session.client(SSH).forwardAgent(outbox, { headers, signal })) socket.write(data);
  socket.end();
}
