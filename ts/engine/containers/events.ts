/** Events about containers, with the attributes that Docker gives them. */
import type { EventStore } from '../../graph/events.ts';
import type { ContainerRecord } from './record.ts';

export class ContainerEvents {
  readonly #events: EventStore;

  constructor(events: EventStore) {
    this.#events = events;
  }

  /** Within the caller's transaction; heard of after its commit. */
  container(record: ContainerRecord, action: string, more: Record<string, string> = {}): void {
    const { row, config } = record;
    const attributes = { ...config.Labels, ...more, image: row.imageName, name: row.name };
    this.#events.append({ type: 'container', action, actorId: row.id, attributes });
  }

  /** One for each volume that it mounts. */
  volumes(action: 'mount' | 'unmount', { row, detail }: ContainerRecord): void {
    for (const { type, name = '', driver = '', destination, writable, propagation } of detail.mountPoints) {
      if (type !== 'volume') continue;
      const more = action === 'mount' ? { destination, 'read/write': String(writable), propagation } : {};
      this.#events.append({
        type: 'volume',
        action,
        actorId: name,
        attributes: { container: row.id, driver, ...more },
      });
    }
  }

  network(
    action: 'connect' | 'disconnect',
    network: { id: string; name: string; driver: string },
    containerId: string,
  ) {
    const attributes = { container: containerId, name: network.name, type: network.driver };
    this.#events.append({ type: 'network', action, actorId: network.id, attributes });
  }
}
