/** Listening on `address:port`. */
import type { Server } from 'node:net';
import { CaissonError } from '../../errdefs.ts';

/** Resolves with the address and the port, which was chosen when it was 0. */
export function listen(server: Server, where: string): Promise<string> {
  const colon = where.lastIndexOf(':');
  const host = where.slice(0, colon).replace(/^\[(.*)\]$/, '$1');
  const port = Number(where.slice(colon + 1));
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        new CaissonError('Conflict', `cannot listen on ${where}: ${error.message}`, {
          code: error.code ?? 'LISTEN_FAILED',
          cause: error,
        }),
      ),
    );
    server.listen({ host, port, backlog: 1024 }, () => {
      const bound = server.address();
      resolve(typeof bound === 'object' && bound !== null ? `${where.slice(0, colon)}:${bound.port}` : where);
    });
  });
}
