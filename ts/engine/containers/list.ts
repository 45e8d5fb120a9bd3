/** `GET /containers/json`: filters and summaries. Reads rows only, so no operation can hold it up. */
import { CaissonError } from '../../errdefs.ts';
import type { ContainerRow } from '../../graph/containers.ts';
import type { PortRow } from '../../graph/networks.ts';
import { boolFilter, type Filters, labelsMatch } from '../api/query.ts';
import { networksOf } from './attachments.ts';
import type { ContainerContext } from './context.ts';
import type { HealthStatus } from './health.ts';
import { describeMount, describeNetworks, healthOf, sizes } from './inspect.ts';
import { type ContainerRecord, isRunning, programOf, readRecord } from './record.ts';
import { humanDuration, toMs } from './time.ts';

export const LIST_FILTERS = [
  'ancestor',
  'before',
  'exited',
  'expose',
  'health',
  'id',
  'is-task',
  'label',
  'name',
  'network',
  'publish',
  'since',
  'status',
  'volume',
  'isolation',
];

export interface ListOptions {
  all: boolean;
  limit: number;
  size: boolean;
  filters: Filters;
}

/** `Up 5 minutes`, `Exited (0) 3 seconds ago`. */
export function statusText(row: ContainerRow, nowMs: number, health?: HealthStatus): string {
  const since = (time: string): string => humanDuration(nowMs - toMs(time));
  switch (row.status) {
    case 'running':
      return `Up ${since(row.startedAt)}${health ? ` (${health === 'starting' ? 'health: starting' : health})` : ''}`;
    case 'paused':
      return `Up ${since(row.startedAt)} (Paused)`;
    case 'restarting':
      return `Restarting (${row.exitCode}) ${since(row.finishedAt)} ago`;
    case 'created':
      return 'Created';
    case 'removing':
      return 'Removal In Progress';
    case 'dead':
      return 'Dead';
    default:
      return `Exited (${row.exitCode}) ${since(row.finishedAt)} ago`;
  }
}

function describePorts(record: ContainerRecord, ports: PortRow[]): object[] {
  if (!isRunning(record.row)) return [];
  const published = ports.map(({ proto, hostIp, hostPort, containerPort }) => ({
    IP: hostIp,
    PrivatePort: containerPort,
    PublicPort: hostPort,
    Type: proto as string,
  }));
  const exposed = Object.keys(record.config.ExposedPorts ?? {})
    .map((key) => key.split('/'))
    .filter(([port, proto]) => !ports.some((one) => String(one.containerPort) === port && one.proto === proto))
    .map(([port, proto]) => ({ PrivatePort: Number(port), Type: proto ?? 'tcp' }));
  return [...exposed, ...published];
}

/** The command as one line; words with spaces are quoted as Docker quotes them. */
function commandText({ config }: ContainerRecord): string {
  const [program = '', ...args] = programOf(config);
  return [
    program,
    ...args.map((word) => (word === '' || /[\s'"]/.test(word) ? `'${word.replaceAll("'", "'\\''")}'` : word)),
  ].join(' ');
}

async function summary(ctx: ContainerContext, record: ContainerRecord, options: ListOptions): Promise<object> {
  const { row, config, hostConfig, detail } = record;
  return {
    Id: row.id,
    Names: [`/${row.name}`],
    // once the name stands for another image, the id says what this one was made from
    Image: row.imageName,
    ImageID: row.imageId,
    Command: commandText(record),
    Created: Math.floor(toMs(row.created) / 1000),
    Ports: describePorts(record, ctx.graph.networks.portsOf(row.id)),
    ...(options.size ? await sizes(ctx, record) : {}),
    Labels: config.Labels,
    State: row.status,
    Status: statusText(row, Date.now(), healthOf(ctx, row)?.Status),
    HostConfig: {
      NetworkMode: hostConfig.NetworkMode,
      ...(hostConfig.Annotations ? { Annotations: hostConfig.Annotations } : {}),
    },
    NetworkSettings: { Networks: describeNetworks(ctx, record) },
    Mounts: detail.mountPoints.filter(({ type }) => type !== 'tmpfs').map(describeMount),
  };
}

const STATES = ['created', 'running', 'paused', 'restarting', 'removing', 'exited', 'dead'];

const HEALTH = ['none', 'starting', 'healthy', 'unhealthy'];

function checkFilters(filters: Filters): void {
  for (const status of filters.get('status') ?? []) {
    if (!STATES.includes(status)) {
      const why = `invalid value for state (${status}): must be one of ${STATES.join(', ')}`;
      throw new CaissonError('InvalidParameter', `invalid filter 'status=${status}': ${why}`);
    }
  }
  for (const health of filters.get('health') ?? []) {
    if (!HEALTH.includes(health)) {
      const why = `invalid value for health (${health}): must be one of ${HEALTH.join(', ')}`;
      throw new CaissonError('InvalidParameter', `invalid filter 'health=${health}': ${why}`);
    }
  }
  boolFilter(filters, 'is-task');
  for (const code of filters.get('exited') ?? []) {
    if (!/^\d+$/.test(code)) throw new CaissonError('InvalidParameter', `invalid filter 'exited=${code}'`);
  }
}

type Test = (record: ContainerRecord) => boolean;

/** A port filter: `80`, `80/udp`, `8000-8010/tcp`. */
function portMatches(filter: string, port: number, proto: string): boolean {
  const match = /^(\d+)(?:-(\d+))?(?:\/(\w+))?$/.exec(filter);
  if (!match) throw new CaissonError('InvalidParameter', `invalid port specification: "${filter}"`);
  const from = Number(match[1]);
  return proto === (match[3] ?? 'tcp') && port >= from && port <= Number(match[2] ?? from);
}

function nameMatches(name: string, filter: string): boolean {
  try {
    return new RegExp(filter.replace(/^\//, '').replace(/^\^\//, '^')).test(name);
  } catch {
    return name.includes(filter);
  }
}

/** Ids of the images that a name or id given to `ancestor` stands for. */
function ancestorTest(ctx: ContainerContext, names: readonly string[]): Test {
  const ids = new Set<string>();
  for (const name of names) {
    try {
      ids.add(ctx.images.find(name).id);
    } catch {
      // no such image: nothing was made from it but by its very name
    }
  }
  return ({ row }) => ids.has(row.imageId) || names.includes(row.imageName);
}

function tests(ctx: ContainerContext, filters: Filters): Test[] {
  const found: Test[] = [];
  const add = (key: string, make: (values: readonly string[]) => Test): void => {
    const values = filters.get(key);
    if (values && values.length > 0) found.push(make(values));
  };
  const ports = (record: ContainerRecord): PortRow[] => ctx.graph.networks.portsOf(record.row.id);
  add('id', (values) => (r) => values.some((value) => r.row.id.startsWith(value)));
  add('name', (values) => (r) => values.some((value) => nameMatches(r.row.name, value)));
  add('status', (values) => (r) => values.includes(r.row.status));
  add('exited', (values) => (r) => r.row.status === 'exited' && values.includes(String(r.row.exitCode)));
  add('label', (values) => (r) => labelsMatch(r.config.Labels, values));
  add('ancestor', (values) => ancestorTest(ctx, values));
  add('health', (values) => (r) => values.includes(healthOf(ctx, r.row)?.Status ?? 'none'));
  add('is-task', (values) => () => values.every((value) => /^(false|0)$/i.test(value)));
  add('network', (values) => (r) => {
    return networksOf(ctx, r).some(({ id, name }) => values.some((value) => value === name || id.startsWith(value)));
  });
  add(
    'volume',
    (values) => (r) =>
      r.detail.mountPoints.some(({ name, destination }) =>
        values.some((value) => value === name || value === destination),
      ),
  );
  add(
    'expose',
    (values) => (r) =>
      Object.keys(r.config.ExposedPorts ?? {}).some((key) => {
        const [port, proto = 'tcp'] = key.split('/');
        return values.some((value) => portMatches(value, Number(port), proto));
      }),
  );
  add(
    'publish',
    (values) => (r) =>
      ports(r).some(({ hostPort, proto }) => values.some((value) => portMatches(value, hostPort, proto))),
  );
  add('before', (values) => {
    const { created } = ctx.graph.containers.resolve(values[0] ?? '');
    return (r) => r.row.created < created;
  });
  add('since', (values) => {
    const { created } = ctx.graph.containers.resolve(values[0] ?? '');
    return (r) => r.row.created > created;
  });
  return found;
}

export async function list(ctx: ContainerContext, options: ListOptions): Promise<object[]> {
  const { filters } = options;
  checkFilters(filters);
  const conditions = tests(ctx, filters);
  // a filter on states, or on neighbours in time, says itself which containers are meant
  const all =
    options.all || options.limit > 0 || ['status', 'exited', 'before', 'since'].some((key) => filters.has(key));
  const found: ContainerRecord[] = [];
  for (const row of ctx.graph.containers.all()) {
    if (!all && !isRunning(row) && row.status !== 'restarting') continue;
    const record = readRecord(row);
    if (conditions.every((test) => test(record))) found.push(record);
    if (options.limit > 0 && found.length === options.limit) break;
  }
  return Promise.all(found.map((record) => summary(ctx, record, options)));
}
