/** Routes that take a client's connection: attach and logs. */
import type { Containers } from '../../containers/containers.ts';
import type { ContainerRecord } from '../../containers/record.ts';
import { parseDetachKeys } from '../../containers/streams.ts';
import { logHead, logRequest } from '../../logs/serve.ts';
import type { LogRequest } from '../../native/containers.ts';
import type { Native } from '../../native/index.ts';
import type { Query } from '../query.ts';
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
      const more = history(query, record);
      const choice = { ...streams(query), tty: record.config.Tty, detachKeys, namesFraming: call.atLeast('1.42') };
      await containers.attach(record, call.hijack(), choice, more);
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
      const more = history(query, record);
      const connection = call.hijack();
      const [fd, other] = native.socketPair();
      const protocol = call.header('sec-websocket-protocol').split(',')[0]?.trim() ?? '';
      const relayed = relayWebsocket(connection, { key, protocol, fd });
      await containers.attach(
        record,
        { fd: other, early: new Uint8Array(), upgraded: true },
        {
          ...streams(query),
          // a websocket has frames of its own: both streams come as they are
          tty: true,
          detachKeys,
          answered: true,
          namesFraming: false,
        },
        { ...more, ...(more.log && { log: { ...more.log, raw: true } }) },
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

const streams = (query: Query): { stdin: boolean; stdout: boolean; stderr: boolean } => ({
  stdin: query.bool('stdin'),
  stdout: query.bool('stdout'),
  stderr: query.bool('stderr'),
});

/** `logs`: what was said before comes first; without `stream` there is nothing behind it. */
function history(query: Query, record: ContainerRecord): { log?: LogRequest; goesOn: boolean } {
  const { stdout, stderr } = streams(query);
  const wanted = query.bool('logs') && (stdout || stderr);
  return { ...(wanted ? { log: { ...logRequest(query, record), follow: false } } : {}), goesOn: query.bool('stream') };
}
