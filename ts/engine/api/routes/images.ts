/** Images. Their names hold slashes, so the routes with a name take the rest of the path and look at its end. */
import { CaissonError } from '../../../errdefs.ts';
import type { Platform } from '../../../oci.ts';
import { parseReference, type Reference } from '../../../reference.ts';
import type { Images } from '../../images/images.ts';
import { IMAGE_FILTERS } from '../../images/list.ts';
import { parsePlatform, parsePlatformJson } from '../../images/platform.ts';
import type { Emit } from '../../images/progress.ts';
import { parseCredentials } from '../../images/pull.ts';
import { PRUNE_FILTERS } from '../../images/remove.ts';
import type { Call } from '../call.ts';
import { pageNotFound, type Router } from '../router.ts';

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
  router.plain({ method: 'POST', path: '/images/create', body: 'stream', handle: (call) => create(call, images) });
  router.plain({ method: 'POST', path: '/images/load', body: 'stream', handle: (call) => load(call, images) });
  router.plain({
    method: 'POST',
    path: '/images/prune',
    handle: ({ query }) => images.prune(query.filters(PRUNE_FILTERS)),
  });
  router.plain({
    method: 'GET',
    path: '/images/get',
    handle: (call) => save(call, images, call.query.all('names')),
  });
  router.plain({
    method: 'GET',
    path: '/images/*',
    handle: (call) => {
      const { name, operation } = split(call);
      if (operation === 'json' || operation === 'history') {
        if (
          call.query.bool('manifests') &&
          call.query.string('platform') !== '' &&
          operation === 'json' &&
          call.atLeast('1.48')
        )
          throw new CaissonError(
            'InvalidParameter',
            'conflicting options: manifests and platform options cannot both be set',
          );
        requirePlatforms(call, 'platform', images, name);
        return operation === 'json' ? images.inspect(name) : images.history(name);
      }
      if (operation === 'get') return save(call, images, [name]);
      throw pageNotFound();
    },
  });
  router.plain({
    method: 'POST',
    path: '/images/*',
    handle: async (call) => {
      const { name, operation } = split(call);
      if (operation === 'push') return push(call, images, name);
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
      requirePlatforms(call, 'platforms', images, name);
      return images.remove(name, { force: call.query.bool('force'), keepParents: call.query.bool('noprune') });
    },
  });
}

function split(call: Call): { name: string; operation: string } {
  const path = call.param('*');
  const slash = path.lastIndexOf('/');
  if (slash < 1) throw pageNotFound();
  return { name: path.slice(0, slash), operation: path.slice(slash + 1) };
}

/** An image here is of one platform: another one is not there. */
function requirePlatforms(call: Call, key: string, images: Images, name: string): void {
  for (const text of call.query.all(key)) {
    const platform = parsePlatformJson(text);
    if (platform !== undefined) images.requirePlatform(name, platform);
  }
}

async function save(call: Call<undefined>, images: Images, names: readonly string[]): Promise<undefined> {
  const body = call.bytes('application/x-tar');
  await images.save(names, onePlatform(call, images), (bytes) => body.write(bytes), call.signal);
  body.end();
}

function onePlatform(call: Call<undefined>, images: Images): Platform | undefined {
  const platforms = call.query.all('platform');
  if (platforms.length > 1)
    throw new CaissonError('InvalidParameter', 'multiple platform parameters not supported', {
      hint: 'an image here has one platform',
    });
  return parsePlatform(platforms[0] ?? '', images.hostPlatform);
}

async function load(call: Call<undefined>, images: Images): Promise<undefined> {
  const quiet = call.query.bool('quiet');
  const platform = onePlatform(call, images);
  const run = (emit: Emit): Promise<void> =>
    images.load(
      call.chunks,
      platform,
      (line) => {
        if (!quiet || line.stream !== undefined) emit(line);
      },
      call.signal,
    );
  // As dockerd: what is wrong with an archive is always told in the stream, and with `quiet` nothing comes before the end:
  // clients wait for the head and close the connection.
  await streamed(call, run, { failsInStream: true });
}

/** Pull, or import when there is `fromSrc`. */
async function create(call: Call<undefined>, images: Images): Promise<undefined> {
  const { query } = call;
  const source = query.string('fromSrc');
  const platform = parsePlatform(query.string('platform'), images.hostPlatform);
  if (source === '') {
    const reference = pullReference(query.string('fromImage'), query.string('tag'));
    const credentials = parseCredentials(call.header('x-registry-auth'));
    return streamed(call, (emit) => images.pull({ reference, platform, credentials }, emit, call.signal));
  }
  const repository = query.string('repo');
  const tag = query.string('tag');
  const request = {
    source,
    reference: repository === '' ? undefined : parseReference(tag === '' ? repository : `${repository}:${tag}`),
    message: query.string('message'),
    changes: query.all('changes'),
    platform: platform ?? images.hostPlatform,
  };
  return streamed(call, (emit) => images.import(request, call.chunks, emit, call.signal));
}

async function push(call: Call<undefined>, images: Images, name: string): Promise<undefined> {
  const { query } = call;
  const platform = parsePlatformJson(query.string('platform'));
  const tag = query.string('tag');
  const reference = parseReference(tag === '' ? name : `${name}:${tag}`);
  const credentials = parseCredentials(call.header('x-registry-auth'));
  return streamed(call, (emit) => images.push({ reference, platform, credentials }, emit, call.signal));
}

/** `tag` may also be a digest. Neither tag nor digest asks for every tag of the repository. */
function pullReference(name: string, tag: string): Reference {
  const bare = name.replace(/:$/, '');
  return parseReference(tag === '' ? bare : `${bare}${tag.includes(':') ? '@' : ':'}${tag}`);
}

/** A failure before the first line keeps its status, unless it is to stand in the stream; after it, it is a line. */
async function streamed(
  call: Call<undefined>,
  run: (emit: Emit) => Promise<void>,
  { failsInStream = false } = {},
): Promise<undefined> {
  const lines = call.lines();
  try {
    await run((line) => lines.write(line));
  } catch (error) {
    if (!lines.started && !failsInStream) throw error;
    lines.fail(error);
    return;
  }
  lines.end();
}
