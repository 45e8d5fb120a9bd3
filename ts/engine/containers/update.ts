/** `update`: limits of a container, at once if it runs, and its restart policy. */
import { CaissonError } from '../../errdefs.ts';
import type { Resources } from '../../oci.ts';
import type { UpdateBody } from '../api/schemas/containers.ts';
import { type JobKind, lock } from '../jobs/kinds.ts';
import { expandPort, portRequests } from '../network/ports.ts';
import { checkResources, toResources } from '../runtime/resources.ts';
import { hasOwnNetworks } from './attachments.ts';
import type { HostConfig, RestartPolicy } from './config.ts';
import type { ContainerContext } from './context.ts';
import type { Publisher } from './publisher.ts';
import { type ContainerRecord, isRunning, readRecord } from './record.ts';
import { cgroupOf } from './spawn.ts';
import { checkRestartPolicy } from './validate.ts';

export interface UpdatePlan {
  id: string;
  cgroup: string;
  changes: Partial<HostConfig>;
  /** For the kernel: what is to be, and what was. */
  after: Resources;
  before: Resources;
  /** Publications that come and go. */
  ports: { add: PortBindings; remove: PortBindings };
}

type PortBindings = HostConfig['PortBindings'];

/** Numbers and words that an update may change; 0, '' and null mean "as it is". */
const LIMITS = [
  'BlkioWeight',
  'CpuShares',
  'NanoCpus',
  'CpuPeriod',
  'CpuQuota',
  'CpusetCpus',
  'CpusetMems',
  'Memory',
  'MemorySwap',
  'MemoryReservation',
  'PidsLimit',
] as const;

export class Updater {
  readonly kind: JobKind<UpdatePlan>;
  readonly #ctx: ContainerContext;
  readonly #publisher: Publisher;

  constructor(ctx: ContainerContext, publisher: Publisher) {
    this.#ctx = ctx;
    this.#publisher = publisher;
    this.kind = {
      kind: 'update',
      subject: ({ id }) => id,
      claims: ({ id }) => [lock(`container:${id}`)],
      begin: (plan) => this.#begin(plan),
      commitPoint: 3,
      durable: true,
      steps: [
        {
          name: 'limits',
          medium: 'kernel',
          do: ({ id, cgroup, after }) => this.#apply(id, cgroup, after),
          undo: ({ id, cgroup, before }) => this.#apply(id, cgroup, before),
        },
        {
          name: 'ports',
          medium: 'kernel',
          do: ({ id, changes }) => this.#publish(id, changes.PortBindings),
          undo: ({ id, changes }) =>
            this.#publish(id, changes.PortBindings && this.#record(id).hostConfig.PortBindings),
        },
        { name: 'rows', medium: 'disk', do: (plan) => ({ rows: () => this.#writeRows(plan) }) },
      ],
    };
  }

  async update(idOrName: string, body: UpdateBody): Promise<{ warnings: string[] }> {
    const { graph, runner, host, specHost } = this.#ctx;
    const record = readRecord(graph.containers.resolve(idOrName));
    const asked = readChanges(body);
    const next = { ...record.hostConfig, ...asked };
    const checked = onlyChanged(next, asked);
    const warnings = checkResources(checked, { ...host, ...specHost });
    // without what the kernel cannot do, as the warnings say
    const names = Object.keys(asked) as (keyof HostConfig)[];
    const changes: Partial<HostConfig> = Object.fromEntries(names.map((name) => [name, checked[name]]));
    checkRestartPolicy(next.RestartPolicy);
    checkConflicts(record, changes);
    const ports = { add: portBindings(body.PublishAdd), remove: portBindings(body.PublishRemove) };
    const plan = { id: record.row.id, cgroup: '', changes, after: {}, before: {}, ports };
    const publishes = [ports.add, ports.remove].some((bindings) => Object.keys(bindings).length > 0);
    if (publishes || Object.keys(changes).length > 0) await runner.run(this.kind, plan);
    return { warnings };
  }

  #begin(plan: UpdatePlan): UpdatePlan {
    const { graph, live } = this.#ctx;
    const record = readRecord(graph.containers.resolve(plan.id));
    const { hostConfig } = record;
    if (live.of(plan.id).removing || ['removing', 'dead'].includes(record.row.status)) {
      throw conflict(plan.id, `Container is marked for removal and cannot be "update".`);
    }
    // once more: another update may have come in between
    checkConflicts(record, plan.changes);
    const changes = { ...plan.changes, ...changedPorts(record, plan.ports) };
    const next = { ...hostConfig, ...changes };
    return {
      ...plan,
      changes,
      cgroup: cgroupOf(this.#ctx, hostConfig, plan.id),
      after: this.#resources(next, plan.changes),
      before: this.#resources(hostConfig, plan.changes),
    };
  }

  /** The sections that the changes touch, with the kernel's own defaults where a limit is not set. */
  #resources(config: HostConfig, changes: Partial<HostConfig>): Resources {
    const { host, specHost } = this.#ctx;
    const { memory, cpu, pids, blockIO } = toResources(config, { ...host, ...specHost });
    const touches = (...names: (keyof HostConfig)[]): boolean => names.some((name) => Object.hasOwn(changes, name));
    const resources: Resources = {};
    if (touches('Memory', 'MemorySwap')) {
      const swap = host.swapLimit ? { swap: memory?.swap ?? -1 } : {};
      resources.memory = { limit: memory?.limit ?? -1, ...swap };
    }
    if (touches('MemoryReservation')) {
      resources.memory = { ...resources.memory, reservation: memory?.reservation ?? -1 };
    }
    if (touches('CpuShares')) resources.cpu = { ...resources.cpu, shares: cpu?.shares ?? 1024 };
    if (touches('NanoCpus', 'CpuPeriod', 'CpuQuota')) {
      resources.cpu = { ...resources.cpu, period: cpu?.period ?? 100_000, quota: cpu?.quota ?? -1 };
    }
    if (touches('CpusetCpus')) resources.cpu = { ...resources.cpu, cpus: cpu?.cpus ?? specHost.cpusetCpus };
    if (touches('CpusetMems')) resources.cpu = { ...resources.cpu, mems: cpu?.mems ?? specHost.cpusetMems };
    if (touches('PidsLimit')) resources.pids = { limit: pids?.limit ?? -1 };
    if (touches('BlkioWeight') && blockIO?.weight) resources.blockIO = { weight: blockIO.weight };
    return resources;
  }

  #record(id: string): ContainerRecord {
    return readRecord(this.#ctx.graph.containers.resolve(id));
  }

  async #publish(id: string, bindings: PortBindings | undefined): Promise<void> {
    if (bindings && isRunning(this.#record(id).row)) await this.#publisher.publish(id, { PortBindings: bindings });
  }

  async #apply(id: string, cgroup: string, resources: Resources): Promise<void> {
    const row = this.#ctx.graph.containers.get(id);
    if (!row || !isRunning(row) || Object.keys(resources).length === 0) return;
    try {
      await this.#ctx.native.cgroupUpdate(cgroup, resources);
    } catch (error) {
      const now = this.#ctx.graph.containers.get(id);
      // its end took the cgroup away: the next start has the new limits
      if (!now || !isRunning(now)) return;
      throw new CaissonError('System', `Cannot update container ${id}: ${(error as Error).message}`, { cause: error });
    }
  }

  #writeRows({ id, changes }: UpdatePlan): void {
    const { graph, events } = this.#ctx;
    const record = readRecord(graph.containers.resolve(id));
    graph.containers.updateDefinition(id, { hostConfig: JSON.stringify({ ...record.hostConfig, ...changes }) });
    events.container(record, 'update');
  }
}

function readChanges(body: UpdateBody): Partial<HostConfig> {
  const changes: Record<string, unknown> = {};
  for (const name of LIMITS) if (body[name]) changes[name] = body[name];
  // 0 and less lift the limit
  if (body.PidsLimit != null) changes['PidsLimit'] = Math.max(0, body.PidsLimit);
  if (body.RestartPolicy?.Name) {
    const { Name, MaximumRetryCount } = body.RestartPolicy;
    changes['RestartPolicy'] = { Name, MaximumRetryCount: MaximumRetryCount ?? 0 } as RestartPolicy;
  }
  return changes as Partial<HostConfig>;
}

function portBindings(body: UpdateBody['PublishAdd']): PortBindings {
  const entries = Object.entries(body ?? {}).flatMap(([key, bindings]) =>
    expandPort(key).map((port): [string, PortBindings[string]] => [
      port,
      (bindings ?? []).map(({ HostIp, HostPort }) => ({ HostIp: HostIp ?? '', HostPort: HostPort ?? '' })),
    ]),
  );
  return Object.fromEntries(entries);
}

/** What is taken away must be there, and what comes must not. */
function changedPorts(
  { row, config, hostConfig }: ContainerRecord,
  { add, remove }: UpdatePlan['ports'],
): Partial<HostConfig> {
  if (Object.keys(add).length + Object.keys(remove).length === 0) return {};
  const { NetworkMode: mode } = hostConfig;
  if (!hasOwnNetworks(hostConfig))
    throw conflict(row.id, `ports of a container with network mode ${mode} are not its own`);
  const next = structuredClone(hostConfig.PortBindings);
  const at = (list: PortBindings[string], { HostIp, HostPort }: PortBindings[string][number]): number =>
    list.findIndex((one) => one.HostIp === HostIp && one.HostPort === HostPort);
  const each = (bindings: PortBindings, change: (key: string, one: PortBindings[string][number]) => void): void => {
    for (const [key, list] of Object.entries(bindings)) for (const one of list) change(key, one);
  };
  const shown = (key: string, { HostIp, HostPort }: PortBindings[string][number]): string =>
    `${HostIp === '' ? '' : `${HostIp}:`}${HostPort}->${key}`;
  each(remove, (key, one) => {
    const list = next[key] ?? [];
    const place = at(list, one);
    if (place < 0) throw conflict(row.id, `it does not publish ${shown(key, one)}`);
    list.splice(place, 1);
    if (list.length === 0) delete next[key];
  });
  each(add, (key, one) => {
    const list = next[key] ?? [];
    if (at(list, one) >= 0) throw conflict(row.id, `it publishes ${shown(key, one)} already`);
    next[key] = [...list, one];
  });
  portRequests(config, { ...hostConfig, PortBindings: next });
  return { PortBindings: next };
}

/** A config in which only what is changed is set: an old value that today would be refused must not stop an update. */
function onlyChanged(next: HostConfig, changes: Partial<HostConfig>): HostConfig {
  const touched = new Set(Object.keys(changes));
  const unset: Partial<HostConfig> = {};
  for (const name of LIMITS) {
    if (touched.has(name) || (name === 'Memory' && touched.has('MemorySwap'))) continue;
    Object.assign(unset, { [name]: typeof next[name] === 'string' ? '' : name === 'PidsLimit' ? null : 0 });
  }
  return { ...next, ...unset };
}

const conflict = (id: string, why: string): CaissonError =>
  new CaissonError('Conflict', `Cannot update container ${id}: ${why}`, { code: 'CONFLICTING_UPDATE' });

/** Docker's rules for an update against what is set already. */
function checkConflicts({ row, hostConfig: now }: ContainerRecord, changes: Partial<HostConfig>): void {
  const { NanoCpus: nano, CpuPeriod: period, CpuQuota: quota, Memory: memory, MemorySwap: swap } = changes;
  const clashes: [boolean, string][] = [
    [Number(nano) > 0 && now.CpuPeriod > 0, 'Nano CPUs cannot be updated as CPU Period has already been set'],
    [Number(nano) > 0 && now.CpuQuota > 0, 'Nano CPUs cannot be updated as CPU Quota has already been set'],
    [Number(period) > 0 && now.NanoCpus > 0, 'CPU Period cannot be updated as NanoCPUs has already been set'],
    [Number(quota) > 0 && now.NanoCpus > 0, 'CPU Quota cannot be updated as NanoCPUs has already been set'],
  ];
  for (const [hit, text] of clashes) if (hit) throw conflict(row.id, `Conflicting options: ${text}`);
  if (memory && !swap && now.MemorySwap !== -1 && memory > now.MemorySwap) {
    throw conflict(
      row.id,
      'Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time',
    );
  }
  const policy = changes.RestartPolicy;
  if (policy && policy.Name !== 'no' && now.AutoRemove) {
    throw conflict(row.id, 'Restart policy cannot be updated because AutoRemove is enabled for the container');
  }
}
