/** Routes that take a client's connection: attach and logs. */
import { CaissonError } from '../../../errdefs.ts';
import type { Containers } from '../../containers/containers.ts';
import { parseDetachKeys } from '../../containers/streams.ts';
import { logHead, logRequest } from '../../logs/serve.ts';
import type { Native } from '../../native/index.ts';
import type { Router } from '../router.ts';
import { relayWebsocket, websocketKey } from '../websocket.ts';

export function containerStreamRoutes(
  router: Router,
  containers: Containers,
  native: Pick<Native, 'socketPair'>,
): void {
  router.plain({
    method: 'POST',
    path: '/containers/:id/attach',
    handle: async (call) => {
      const { query } = call;
      const record = containers.checkAttach(call.param('id'));
      const detachKeys = parseDetachKeys(query.string('detachKeys'));
      if (query.bool('logs')) {
        throw new CaissonError('NotImplemented', 'attach with logs=1 is not supported by caisson; use the logs route');
      }
      const stream = query.bool('stream');
      await containers.attach(record, call.hijack(), {
        stdin: stream && query.bool('stdin'),
        stdout: stream && query.bool('stdout'),
        stderr: stream && query.bool('stderr'),
        tty: record.config.Tty,
        detachKeys,
        namesFraming: call.atLeast('1.42'),
      });
    },
  });
  router.plain({
    method: 'GET',
    path: '/containers/:id/attach/ws',
    handle: async (call) => {
      const { query } = call;
      const record = containers.checkAttach(call.param('id'));
      const key = websocketKey((name) => call.header(name));
      const detachKeys = parseDetachKeys(query.string('detachKeys'));
      const connection = call.hijack();
      const [fd, other] = native.socketPair();
      const protocol = call.header('sec-websocket-protocol').split(',')[0]?.trim() ?? '';
      const relayed = relayWebsocket(connection, { key, protocol, fd });
      await containers.attach(
        record,
        { fd: other, early: new Uint8Array(), upgraded: true },
        {
          stdin: query.bool('stdin'),
          stdout: query.bool('stdout'),
          stderr: query.bool('stderr'),
          // a websocket has frames of its own: both streams come as they are
          tty: true,
          detachKeys,
          answered: true,
          namesFraming: false,
        },
      );
      await relayed;
    },
  });
  router.plain({
    method: 'GET',
    path: '/containers/:id/logs',
    handle: async (call) => {
      const record = containers.record(call.param('id'));
      const request = logRequest(call.query, record);
      const head = logHead(record.config.Tty, call.atLeast('1.42'));
      const { fd } = call.hijack();
      await containers.serveLog(record, request, fd, head);
    },
  });
}
