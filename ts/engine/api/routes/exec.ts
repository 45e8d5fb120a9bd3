/** `POST /containers/{id}/exec` and the routes of `/exec/{id}`. */
import type { Containers } from '../../containers/containers.ts';
import { openStream } from '../../containers/streams.ts';
import type { Router } from '../router.ts';
import { execBody, execStartBody } from '../schemas/containers.ts';
import { terminalSize } from './containers.ts';

export function execRoutes(router: Router, containers: Containers): void {
  router.json({
    method: 'POST',
    path: '/containers/:id/exec',
    body: execBody,
    handle: async (call) => {
      const id = await containers.execs.create(call.param('id'), call.body);
      call.status(201);
      return { Id: id };
    },
  });
  router.json({
    method: 'POST',
    path: '/exec/:id/start',
    body: execStartBody,
    optionalBody: true,
    handle: async (call) => {
      const id = call.param('id');
      const { config } = containers.execs.check(id);
      const size = call.body.ConsoleSize;
      if (call.body.Detach) {
        await containers.execs.start(id, undefined, size);
        call.status(200);
        return undefined;
      }
      // Docker: how the output is framed is the starter's word, not the creator's
      const tty = call.body.Tty ?? false;
      // the head goes out before the program can say anything: docker-py loses what comes in one packet with it
      const stream = openStream(call.hijack(), { ...config, tty, namesFraming: call.atLeast('1.42') });
      await containers.execs.start(id, stream, size);
      return undefined;
    },
  });
  router.plain({
    method: 'POST',
    path: '/exec/:id/resize',
    handle: async (call) => {
      const { width, height } = terminalSize(call);
      await containers.execs.resize(call.param('id'), width, height);
      call.status(200);
    },
  });
  router.plain({ method: 'GET', path: '/exec/:id/json', handle: (call) => containers.execs.inspect(call.param('id')) });
}
