/** `GET /containers/json`: filters and summaries. Reads rows only, so no operation can hold it up. */
import { CaissonError } from '../../errdefs.ts';
import type { ContainerRow } from '../../graph/containers.ts';
import type { PortRow } from '../../graph/networks.ts';
import { boolFilter, type Filters, labelsMatch, textMatches } from '../api/query.ts';
import type { MountPoint } from './config.ts';
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
  /** Show them: clients before 1.46 do not know them. */
  annotations: boolean;
  filters: Filters;
}

/** Its own name, and what others call it by a link: `owner/alias`. */
type NamesOf = (row: Pick<ContainerRow, 'id' | 'name'>) => string[];

function namesOf({ graph }: ContainerContext): NamesOf {
  const links = Map.groupBy(graph.links.named(), ({ targetId }) => targetId);
  return ({ id, name }) => [name, ...(links.get(id) ?? []).map(({ owner, alias }) => `${owner}/${alias}`)];
}

/** What a list shows of a container and filters it by; true until a row of the container changes. */
interface Entry {
  row: Omit<ContainerRow, 'config' | 'hostConfig' | 'detail'>;
  /** Without what time alone changes. */
  summary: Record<string, unknown> & { HostConfig: object };
  annotations?: Record<string, string>;
  labels: Record<string, string>;
  networks: { id: string; name: string }[];
  mountPoints: MountPoint[];
  exposed: string[];
  published: PortRow[];
}

/** `Up 5 minutes`, `Exited (0) 3 seconds ago`. */
function statusText(row: Entry['row'], nowMs: number, health?: HealthStatus): string {
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
    ...(hostPort === 0 ? {} : { PublicPort: hostPort }),
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

function readEntry(ctx: ContainerContext, id: string): Entry | undefined {
  const { containers, networks } = ctx.graph;
  const found = containers.get(id);
  if (!found) return undefined;
  const record = readRecord(found);
  const { config, hostConfig, detail } = record;
  const { config: _config, hostConfig: _hostConfig, detail: _detail, ...row } = found;
  const published = networks.portsOf(id);
  const endpoints = networks.endpointsOf(id);
  const described = describeNetworks(ctx, record, endpoints);
  return {
    row,
    summary: {
      Id: id,
      ImageID: row.imageId,
      Command: commandText(record),
      Created: Math.floor(toMs(row.created) / 1000),
      Ports: describePorts(record, published),
      Labels: config.Labels,
      State: row.status,
      HostConfig: { NetworkMode: hostConfig.NetworkMode },
      NetworkSettings: { Networks: described },
      Mounts: detail.mountPoints.filter(({ type }) => type !== 'tmpfs').map(describeMount),
    },
    ...(hostConfig.Annotations ? { annotations: hostConfig.Annotations } : {}),
    labels: config.Labels,
    networks: Object.keys(described).map((name) => ({
      name,
      id: endpoints.find((one) => one.networkName === name)?.networkId ?? networks.byName(name)?.id ?? '',
    })),
    mountPoints: detail.mountPoints,
    exposed: Object.keys(config.ExposedPorts ?? {}),
    published,
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

type Test = (entry: Entry) => boolean;

/** A port filter: `80`, `80/udp`, `8000-8010/tcp`. */
/** `port`, `from-to`, each with a protocol if it is not tcp. */
function parsePorts(filter: string): { from: number; to: number; proto: string } {
  const match = /^(\d+)(?:-(\d+))?(?:\/(\w+))?$/.exec(filter);
  if (!match) throw new CaissonError('InvalidParameter', `invalid port specification: "${filter}"`);
  const from = Number(match[1]);
  return { from, to: Number(match[2] ?? from), proto: match[3] ?? 'tcp' };
}

function portMatches(filter: string, port: number, proto: string): boolean {
  const wanted = parsePorts(filter);
  return proto === wanted.proto && port >= wanted.from && port <= wanted.to;
}

/** The slash in front that names have in the API need not be there. */
const nameMatches = (name: string, filter: string): boolean =>
  textMatches(name, filter.replace(/^\//, '').replace(/^\^\//, '^'));

/** What an image's name stands for now. */
function imageIdOf(ctx: ContainerContext, name: string): string | undefined {
  try {
    return ctx.images.find(name).id;
  } catch {
    return undefined;
  }
}

/** `ancestor`: made from one of these images, or from one that was built or committed on it. */
function ancestorTest(ctx: ContainerContext, names: readonly string[]): Test {
  const ids = new Set(names.map((name) => imageIdOf(ctx, name)));
  for (const id of ids) for (const child of id === undefined ? [] : ctx.graph.images.children(id)) ids.add(child);
  return ({ row }) => ids.has(row.imageId);
}

function tests(ctx: ContainerContext, filters: Filters, names: NamesOf): Test[] {
  const found: Test[] = [];
  const add = (key: string, make: (values: readonly string[]) => Test): void => {
    const values = filters.get(key);
    if (values && values.length > 0) found.push(make(values));
  };
  add('id', (values) => (r) => values.some((value) => r.row.id.startsWith(value)));
  add('name', (values) => (r) => names(r.row).some((name) => values.some((value) => nameMatches(name, value))));
  add('status', (values) => (r) => values.includes(r.row.status));
  add('exited', (values) => (r) => r.row.status === 'exited' && values.includes(String(r.row.exitCode)));
  add('label', (values) => (r) => labelsMatch(r.labels, values));
  add('ancestor', (values) => ancestorTest(ctx, values));
  add('health', (values) => (r) => values.includes(healthOf(ctx, r.row)?.Status ?? 'none'));
  add('is-task', (values) => () => values.every((value) => /^(false|0)$/i.test(value)));
  add(
    'network',
    (values) => (r) =>
      r.networks.some(({ id, name }) => values.some((value) => value === name || id.startsWith(value))),
  );
  add(
    'volume',
    (values) => (r) =>
      r.mountPoints.some(({ name, source, destination }) =>
        [name, source, destination].some((one) => one && values.includes(one)),
      ),
  );
  for (const port of [...(filters.get('expose') ?? []), ...(filters.get('publish') ?? [])]) parsePorts(port);
  add(
    'expose',
    (values) => (r) =>
      r.exposed.some((key) => {
        const [port, proto = 'tcp'] = key.split('/');
        return values.some((value) => portMatches(value, Number(port), proto));
      }),
  );
  add(
    'publish',
    (values) => (r) =>
      r.published.some(({ hostPort, proto }) => values.some((value) => portMatches(value, hostPort, proto))),
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

export class ContainerList {
  readonly #ctx: ContainerContext;
  readonly #entries = new Map<string, Entry>();

  constructor(ctx: ContainerContext) {
    this.#ctx = ctx;
    const { db, networks } = ctx.graph;
    const changed = (id: string): void => void this.#entries.delete(id);
    db.watch('container', 'id', changed);
    db.watch('endpoint', 'container_id', changed);
    networks.watchPorts(changed);
  }

  #entry(id: string): Entry | undefined {
    let entry = this.#entries.get(id);
    if (!entry) {
      entry = readEntry(this.#ctx, id);
      if (entry) this.#entries.set(id, entry);
    }
    return entry;
  }

  async list(options: ListOptions): Promise<object[]> {
    const { filters } = options;
    checkFilters(filters);
    const names = namesOf(this.#ctx);
    const conditions = tests(this.#ctx, filters, names);
    // a filter on states says itself which containers are meant
    const all = options.all || options.limit > 0 || filters.has('status');
    const found: Entry[] = [];
    for (const id of this.#ctx.graph.containers.ids()) {
      const entry = this.#entry(id);
      if (!entry || (!all && !isRunning(entry.row) && entry.row.status !== 'restarting')) continue;
      if (conditions.every((test) => test(entry))) found.push(entry);
      if (options.limit > 0 && found.length === options.limit) break;
    }
    const nowMs = Date.now();
    const known = new Map<string, string | undefined>();
    const show = ({ row, summary, annotations }: Entry): object => ({
      ...summary,
      Image: this.#imageShown(row, known),
      Names: names(row).map((name) => `/${name}`),
      HostConfig: {
        ...summary.HostConfig,
        ...(options.annotations && annotations ? { Annotations: annotations } : {}),
      },
      Status: statusText(row, nowMs, healthOf(this.#ctx, row)?.Status),
    });
    if (!options.size) return found.map(show);
    return Promise.all(found.map(async (entry) => ({ ...show(entry), ...(await this.#sizes(entry.row.id)) })));
  }

  /** Once the name stands for another image, or for none, the id says what this one was made from. `known`: by name. */
  #imageShown({ imageName, imageId }: Entry['row'], known: Map<string, string | undefined>): string {
    if (!known.has(imageName)) known.set(imageName, imageIdOf(this.#ctx, imageName));
    return known.get(imageName) === imageId ? imageName : imageId;
  }

  /** As Docker: a list has no sizes of 0. */
  async #sizes(id: string): Promise<object> {
    const row = this.#ctx.graph.containers.get(id);
    if (!row) return {};
    const { SizeRw, SizeRootFs } = await sizes(this.#ctx, readRecord(row));
    return { ...(SizeRw > 0 ? { SizeRw } : {}), ...(SizeRootFs > 0 ? { SizeRootFs } : {}) };
  }
}
