/** Images. Their names hold slashes, so the routes with a name take the rest of the path and look at its end. */
import { CaissonError } from '../../../errdefs.ts';
import type { Images } from '../../images/images.ts';
import { IMAGE_FILTERS } from '../../images/list.ts';
import { PRUNE_FILTERS } from '../../images/remove.ts';
import type { Call } from '../call.ts';
import { pageNotFound, type Router } from '../router.ts';
import { notImplemented } from './unsupported.ts';

export function imageRoutes(router: Router, images: Images): void {
  router.plain({
    method: 'GET',
    path: '/images/json',
    handle: ({ query }) =>
      images.list({
        all: query.bool('all'),
        filters: query.filters(IMAGE_FILTERS),
        sharedSize: query.bool('shared-size'),
      }),
  });
  router.plain({ method: 'POST', path: '/images/load', body: 'stream', handle: (call) => load(call, images) });
  router.plain({
    method: 'POST',
    path: '/images/prune',
    handle: ({ query }) => images.prune(query.filters(PRUNE_FILTERS)),
  });
  router.plain({
    method: 'GET',
    path: '/images/*',
    handle: (call) => {
      const { name, operation } = split(call);
      if (operation === 'json') return images.inspect(name);
      if (operation === 'history') return images.history(name);
      if (operation === 'get') throw notImplemented('GET /images/{name}/get', 'saving images');
      throw pageNotFound();
    },
  });
  router.plain({
    method: 'POST',
    path: '/images/*',
    handle: async (call) => {
      const { name, operation } = split(call);
      if (operation === 'push') throw notImplemented('POST /images/{name}/push', 'pushing images');
      if (operation !== 'tag') throw pageNotFound();
      await images.tag(name, call.query.string('repo'), call.query.string('tag'));
      call.status(201);
    },
  });
  router.plain({
    method: 'DELETE',
    path: '/images/*',
    handle: (call) => {
      const name = call.param('*');
      if (name.trim() === '') throw new CaissonError('InvalidParameter', 'image name cannot be blank');
      return images.remove(name, call.query.bool('force'));
    },
  });
}

function split(call: Call): { name: string; operation: string } {
  const path = call.param('*');
  const slash = path.lastIndexOf('/');
  if (slash < 1) throw pageNotFound();
  return { name: path.slice(0, slash), operation: path.slice(slash + 1) };
}

async function load(call: Call<undefined>, images: Images): Promise<undefined> {
  const lines = call.lines();
  const quiet = call.query.bool('quiet');
  try {
    await images.load(
      call.stream,
      (line) => {
        if (!quiet || line.stream !== undefined) lines.write(line);
      },
      call.signal,
    );
  } catch (error) {
    if (!lines.started) throw error;
    lines.fail(error);
    return;
  }
  lines.end();
}
