/** `/containers/{id}/archive` (docker cp) and `/containers/{id}/changes` (docker diff). */
import { basename } from 'node:path/posix';
import { pipeline } from 'node:stream/promises';
import type { Containers } from '../../containers/containers.ts';
import type { ArchivePathStat } from '../../native/files.ts';
import type { Call } from '../call.ts';
import type { Router } from '../router.ts';

const PATH = '/containers/:id/archive';

export function archiveRoutes(router: Router, containers: Containers): void {
  router.plain({ method: 'HEAD', path: PATH, handle: (call) => head(call, containers) });
  router.plain({ method: 'GET', path: PATH, handle: (call) => get(call, containers) });
  router.plain({ method: 'PUT', path: PATH, body: 'stream', handle: (call) => put(call, containers) });
  router.plain({
    method: 'GET',
    path: '/containers/:id/changes',
    handle: async (call) => {
      const changes = await containers.archives.changes(call.param('id'));
      // Go's encoding of a list that nothing was added to
      return changes.length > 0 ? changes : null;
    },
  });
}

/** A bit of Go's os.FileMode for each kind and flag of st_mode. */
const GO_KINDS = new Map([
  [0x4000, 2 ** 31], // directory
  [0xa000, 2 ** 27], // symlink
  [0x6000, 2 ** 26], // block device
  [0x2000, 2 ** 26 + 2 ** 21], // character device
  [0x1000, 2 ** 25], // FIFO
  [0xc000, 2 ** 24], // socket
]);

export function goFileMode(mode: number): number {
  const flags = (mode & 0o4000 ? 2 ** 23 : 0) + (mode & 0o2000 ? 2 ** 22 : 0) + (mode & 0o1000 ? 2 ** 20 : 0);
  return (GO_KINDS.get(mode & 0xf000) ?? 0) + flags + (mode & 0o777);
}

/** `X-Docker-Container-Path-Stat`. */
function statHeader(path: string, stat: ArchivePathStat): string {
  const whole = new Date(stat.mtimeSeconds * 1000).toISOString().slice(0, 19);
  const fraction = String(stat.mtimeNanoseconds).padStart(9, '0').replace(/0+$/, '');
  const text = JSON.stringify({
    name: basename(path) || '/',
    size: stat.size,
    mode: goFileMode(stat.mode),
    mtime: `${whole}${fraction ? `.${fraction}` : ''}Z`,
    linkTarget: stat.linkTarget,
  });
  return Buffer.from(text).toString('base64');
}

async function head(call: Call<undefined>, containers: Containers): Promise<void> {
  const path = call.query.string('path');
  const stat = await containers.archives.stat(call.param('id'), path);
  call.status(200).reply.header('X-Docker-Container-Path-Stat', statHeader(path, stat));
}

async function get(call: Call<undefined>, containers: Containers): Promise<void> {
  const path = call.query.string('path');
  const { stat, stream } = await containers.archives.read(call.param('id'), path);
  call.reply.hijack();
  call.reply.raw.writeHead(200, {
    'Content-Type': 'application/x-tar',
    'X-Docker-Container-Path-Stat': statHeader(path, stat),
  });
  await pipeline(stream, call.reply.raw);
}

async function put(call: Call<undefined>, containers: Containers): Promise<void> {
  const { query } = call;
  const options = {
    keepKinds: query.bool('noOverwriteDirNonDir'),
    ownedByUser: query.bool('copyUIDGID'),
  };
  await containers.archives.write(call.param('id'), query.string('path'), options, call.chunks);
  call.status(200);
}
