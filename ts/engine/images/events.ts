import type { Graph } from '../../graph/graph.ts';
import { parseConfig } from './config.ts';

/** With the labels of the image, by which clients filter. Within the caller's transaction; heard of after its commit. */
export function imageEvent({ images, events }: Graph, action: string, id: string, name = id): void {
  const image = images.get(id);
  const labels = image === undefined ? {} : (parseConfig(image.config).config?.Labels ?? {});
  events.append({ type: 'image', action, actorId: id, attributes: { ...labels, name } });
}
