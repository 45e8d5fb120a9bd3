/** `docker system df`. */
import { CaissonError } from '../../errdefs.ts';
import type { Engine } from '../engine.ts';

const TYPES = ['container', 'image', 'volume', 'build-cache'];

/** `types`: what is asked for; none: all. */
export async function diskUsage(
  { graph, images, containers, volumes }: Pick<Engine, 'graph' | 'images' | 'containers' | 'volumes'>,
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
    // Layers are kept unpacked and as the blobs that they came in.
    LayersSize: wants('image')
      ? [...graph.layers.all(), ...graph.blobs.all()].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
      : 0,
    Images: wants('image') ? images.list({ all: false, filters, sharedSize: true }) : null,
    Containers: wants('container')
      ? await containers.list({ all: true, limit: 0, size: true, annotations: true, filters })
      : null,
    Volumes: wants('volume') ? await volumes.usage() : null,
    BuildCache: wants('build-cache') ? [] : null,
  };
}
