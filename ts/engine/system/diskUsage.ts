/** `docker system df`. */
import { CaissonError } from '../../errdefs.ts';
import type { BuildCache, Builds } from '../builder/builds.ts';
import type { Engine } from '../engine.ts';

const TYPES = ['container', 'image', 'volume', 'build-cache'];

/** `types`: what is asked for; none: all. */
export async function diskUsage(
  { images, containers, volumes }: Pick<Engine, 'images' | 'containers' | 'volumes'>,
  builds: Pick<Builds, 'caches'>,
  types: readonly string[],
): Promise<object> {
  const unknown = types.find((type) => !TYPES.includes(type));
  if (unknown !== undefined)
    throw new CaissonError('InvalidParameter', `unknown object type: ${unknown}`, {
      hint: `it is one of ${TYPES.join(', ')}`,
    });
  const wants = (type: string): boolean => types.length === 0 || types.includes(type);
  const filters = new Map();
  return {
    LayersSize: wants('image') ? await images.diskUsage() : 0,
    Images: wants('image') ? images.list({ all: false, filters, sharedSize: true }) : null,
    Containers: wants('container')
      ? await containers.list({ all: true, limit: 0, size: true, annotations: true, filters })
      : null,
    Volumes: wants('volume') ? await volumes.usage() : null,
    BuildCache: wants('build-cache') ? (await builds.caches()).map(cacheRecord) : null,
  };
}

const cacheRecord = ({ id, type, description, inUse, bytes, created, used }: BuildCache): object => ({
  ID: id,
  Type: type,
  Description: description,
  InUse: inUse,
  Shared: false,
  Size: bytes,
  CreatedAt: created.toISOString(),
  LastUsedAt: used.toISOString(),
  UsageCount: 1,
});
