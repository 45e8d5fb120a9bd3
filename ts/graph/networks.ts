import { CaissonError } from '../errdefs.ts';
import { type Database, isTaken, type Statement } from './db.ts';
import { isHexPrefix, PrefixLookup } from './lookup.ts';

export interface NetworkRow {
  /** 64 hex digits. */
  id: string;
  name: string;
  driver: string;
  /** The host's bridge device; null for drivers without one. */
  bridge: string | null;
  /** `172.18.0.0/16`. */
  subnet: string | null;
  gateway: string | null;
  ipRange: string | null;
  subnet6: string | null;
  gateway6: string | null;
  ipRange6: string | null;
  internal: boolean;
  attachable: boolean;
  /** JSON objects. */
  options: string;
  labels: string;
  detail: string;
  created: string;
}

export type LeadsOut = Record<4 | 6, boolean>;

/** Attachment of a container to a network; `address`, `mac` and `hostName` are null while it is not running. */
export interface EndpointRow {
  /** 64 hex digits. */
  id: string;
  containerId: string;
  /** Of a network that was removed it is the former one; before the network is there, its name. */
  networkId: string;
  /** As the network was called when the endpoint was made. */
  networkName: string;
  /** Inside: `eth0`. */
  interface: string;
  /** The host's end of the veth pair. */
  hostName: string | null;
  mac: string | null;
  /** Without the prefix length. */
  address: string | null;
  prefixLength: number | null;
  gateway: string | null;
  address6: string | null;
  prefixLength6: number | null;
  gateway6: string | null;
  /** Families in which it has the default route and the published ports. */
  leadsOut: LeadsOut;
  /** JSON array: all names that the DNS server knows the container by on this network. */
  aliases: string;
  /** JSON: what the user asked for (fixed address, links, driver options). */
  config: string;
}

export interface PortRow {
  proto: 'tcp' | 'udp' | 'sctp';
  /** `0.0.0.0` for every address. */
  hostIp: string;
  /** 0 in a routed network: the host has none. */
  hostPort: number;
  containerId: string;
  containerIp: string;
  containerPort: number;
  /** May be reached by the container's own address. */
  direct: boolean;
}

type StoredNetwork = Omit<NetworkRow, 'internal' | 'attachable'> & { internal: number; attachable: number };
type StoredPort = Omit<PortRow, 'direct'> & { direct: number };
type StoredEndpoint = Omit<EndpointRow, 'leadsOut'> & { leadsOut: number };

const storedLeads = (leads: LeadsOut): number => (leads[4] ? 1 : 0) | (leads[6] ? 2 : 0);
/** What a start chooses. */
export type Addressing = Omit<EndpointRow, 'containerId' | 'networkName' | 'aliases' | 'config'>;

const NETWORK =
  'id, name, driver, bridge, subnet, gateway, ip_range AS ipRange, subnet6, gateway6, ip_range6 AS ipRange6, ' +
  'internal, attachable, options, labels, detail, created';
const ENDPOINT =
  'id, container_id AS containerId, network_id AS networkId, network_name AS networkName, interface, ' +
  'host_name AS hostName, mac, address, prefix_length AS prefixLength, gateway, address6, ' +
  'prefix_length6 AS prefixLength6, gateway6, leads_out AS leadsOut, aliases, config';
const PORT =
  'proto, host_ip AS hostIp, host_port AS hostPort, container_id AS containerId, container_ip AS containerIp, ' +
  'container_port AS containerPort, direct';

const load = (row: StoredNetwork): NetworkRow => ({
  ...row,
  internal: row.internal === 1,
  attachable: row.attachable === 1,
});

const loadPort = (row: StoredPort): PortRow => ({ ...row, direct: row.direct === 1 });

const loadEndpoint = (row: StoredEndpoint): EndpointRow => ({
  ...row,
  leadsOut: { 4: (row.leadsOut & 1) !== 0, 6: (row.leadsOut & 2) !== 0 },
});

export class NetworkStore {
  /** Grows with every change of an endpoint: what was derived from them is stale. */
  version = 0;
  #portsWatcher: (containerId: string) => void = () => {};
  readonly #prefix: PrefixLookup;
  readonly #insert: Statement<[StoredNetwork], never>;
  readonly #get: Statement<[string], StoredNetwork>;
  readonly #byName: Statement<[string], StoredNetwork>;
  readonly #all: Statement<[], StoredNetwork>;
  readonly #delete: Statement<[string], never>;
  readonly #insertEndpoint: Statement<[StoredEndpoint], never>;
  readonly #updateEndpoint: Statement<
    [Omit<StoredEndpoint, 'containerId' | 'networkName' | 'aliases' | 'config'>],
    never
  >;
  readonly #endpointsOf: Statement<[string], StoredEndpoint>;
  readonly #endpointsOn: Statement<[string], StoredEndpoint>;
  readonly #allEndpoints: Statement<[], StoredEndpoint>;
  readonly #deleteEndpoint: Statement<[string], never>;
  readonly #releaseEndpoints: Statement<[string], never>;
  readonly #addresses: Statement<[string], { address: string | null; address6: string | null }>;
  readonly #addressCount: Record<4 | 6, Statement<[string], { count: number }>>;
  readonly #hasAddress: Record<4 | 6, Statement<[string, string], unknown>>;
  readonly #setAliases: Statement<[string, string], never>;
  readonly #insertPorts: Statement<[{ id: string; ports: string }], never>;
  readonly #portsOf: Statement<[string], StoredPort>;
  readonly #ports: Statement<[], StoredPort>;
  readonly #deletePorts: Statement<[string], never>;

  constructor(db: Database) {
    this.#prefix = new PrefixLookup(db, 'network', 'id');
    this.#insert = db.prepare(`
      INSERT INTO network (id, name, driver, bridge, subnet, gateway, ip_range, subnet6, gateway6, ip_range6, internal,
        attachable, options, labels, detail, created)
      VALUES (@id, @name, @driver, @bridge, @subnet, @gateway, @ipRange, @subnet6, @gateway6, @ipRange6, @internal,
        @attachable, @options, @labels, @detail, @created)`);
    this.#get = db.prepare(`SELECT ${NETWORK} FROM network WHERE id = ?`);
    this.#byName = db.prepare(`SELECT ${NETWORK} FROM network WHERE name = ?`);
    this.#all = db.prepare(`SELECT ${NETWORK} FROM network ORDER BY created, id`);
    this.#delete = db.prepare('DELETE FROM network WHERE id = ?');
    this.#insertEndpoint = db.prepare(`
      INSERT INTO endpoint VALUES (@id, @containerId, @networkId, @networkName, @interface, @hostName, @mac, @address,
        @prefixLength, @gateway, @address6, @prefixLength6, @gateway6, @leadsOut, @aliases, @config)`);
    this.#updateEndpoint = db.prepare(`
      UPDATE endpoint SET network_id = @networkId, interface = @interface, host_name = @hostName, mac = @mac,
        address = @address, prefix_length = @prefixLength, gateway = @gateway, address6 = @address6,
        prefix_length6 = @prefixLength6, gateway6 = @gateway6, leads_out = @leadsOut WHERE id = @id`);
    this.#endpointsOf = db.prepare(`SELECT ${ENDPOINT} FROM endpoint WHERE container_id = ?`);
    this.#endpointsOn = db.prepare(`SELECT ${ENDPOINT} FROM endpoint WHERE network_id = ? ORDER BY container_id`);
    this.#allEndpoints = db.prepare(`SELECT ${ENDPOINT} FROM endpoint ORDER BY container_id, interface`);
    this.#deleteEndpoint = db.prepare('DELETE FROM endpoint WHERE id = ?');
    this.#releaseEndpoints = db.prepare(`
      UPDATE endpoint SET host_name = NULL, mac = NULL, address = NULL, prefix_length = NULL, gateway = NULL,
        address6 = NULL, prefix_length6 = NULL, gateway6 = NULL, leads_out = 0
      WHERE container_id = ?`);
    this.#addresses = db.prepare(
      'SELECT address, address6 FROM endpoint WHERE network_id = ? AND (address IS NOT NULL OR address6 IS NOT NULL)',
    );
    const count = (column: string): Statement<[string], { count: number }> =>
      db.prepare(`SELECT count(*) AS count FROM endpoint WHERE network_id = ? AND ${column} IS NOT NULL`);
    const has = (column: string): Statement<[string, string], unknown> =>
      db.prepare(`SELECT 1 FROM endpoint WHERE network_id = ? AND ${column} = ?`);
    this.#addressCount = { 4: count('address'), 6: count('address6') };
    this.#hasAddress = { 4: has('address'), 6: has('address6') };
    this.#setAliases = db.prepare('UPDATE endpoint SET aliases = ? WHERE id = ?');
    this.#insertPorts = db.prepare(`
      INSERT INTO port (proto, host_ip, host_port, container_id, container_ip, container_port, direct)
      SELECT value ->> 0, value ->> 1, value ->> 2, @id, value ->> 3, value ->> 4, value ->> 5 FROM json_each(@ports)`);
    this.#portsOf = db.prepare(
      `SELECT ${PORT} FROM port WHERE container_id = ? ORDER BY container_port, proto, host_ip`,
    );
    this.#ports = db.prepare(`SELECT ${PORT} FROM port ORDER BY container_id, container_port, proto, host_ip`);
    this.#deletePorts = db.prepare('DELETE FROM port WHERE container_id = ?');
  }

  /** Kind Conflict, with Docker's text, when the name is taken. */
  insert(network: NetworkRow): void {
    try {
      this.#insert.run({
        ...network,
        internal: network.internal ? 1 : 0,
        attachable: network.attachable ? 1 : 0,
      });
    } catch (error) {
      if (!isTaken(error, 'network.name')) throw error;
      throw new CaissonError('Conflict', `network with name ${network.name} already exists`, { code: 'NAME_IN_USE' });
    }
  }

  get(id: string): NetworkRow | undefined {
    const row = this.#get.get(id);
    return row === undefined ? undefined : load(row);
  }

  byName(name: string): NetworkRow | undefined {
    const row = this.#byName.get(name);
    return row === undefined ? undefined : load(row);
  }

  /** By full id, name, then prefix of the id; Docker's texts. */
  resolve(idOrName: string): NetworkRow {
    const row = this.#get.get(idOrName) ?? this.#byName.get(idOrName);
    if (row !== undefined) return load(row);
    const [first, second] = isHexPrefix(idOrName) ? this.#prefix.find(idOrName) : [];
    if (second !== undefined) {
      throw new CaissonError(
        'InvalidParameter',
        `network ${idOrName} is ambiguous (several matches found based on ID prefix)`,
      );
    }
    const found = first === undefined ? undefined : this.#get.get(first);
    if (found === undefined) {
      throw new CaissonError('NotFound', `network ${idOrName} not found`, { code: 'NETWORK_NOT_FOUND' });
    }
    return load(found);
  }

  /** The oldest first. */
  all(): NetworkRow[] {
    return this.#all.all().map(load);
  }

  delete(id: string): void {
    this.#delete.run(id);
  }

  /** Kind Conflict when the address is taken in that network. */
  insertEndpoint(endpoint: EndpointRow): void {
    this.version++;
    const stored = { ...endpoint, leadsOut: storedLeads(endpoint.leadsOut) };
    this.#unlessAddressTaken(endpoint, () => this.#insertEndpoint.run(stored));
  }

  /** Sets what a start chose. Kind Conflict when the address is taken in that network. */
  updateEndpoint(addressing: Addressing): void {
    this.version++;
    const stored = { ...addressing, leadsOut: storedLeads(addressing.leadsOut) };
    this.#unlessAddressTaken(addressing, () => this.#updateEndpoint.run(stored));
  }

  endpointsOf(containerId: string): EndpointRow[] {
    // sorted here: SQLite takes longer to make its sorter ready than for all the rest
    const all = this.#endpointsOf.all(containerId).map(loadEndpoint);
    return all.sort((a, b) => (a.interface < b.interface ? -1 : 1));
  }

  endpointsOn(networkId: string): EndpointRow[] {
    return this.#endpointsOn.all(networkId).map(loadEndpoint);
  }

  allEndpoints(): EndpointRow[] {
    return this.#allEndpoints.all().map(loadEndpoint);
  }

  deleteEndpoint(id: string): void {
    this.version++;
    this.#deleteEndpoint.run(id);
  }

  /** The names that the DNS server knows the container by. */
  setAliases(id: string, aliases: readonly string[]): void {
    this.version++;
    this.#setAliases.run(JSON.stringify(aliases), id);
  }

  /** The container has stopped: its addresses and device names are free again. */
  releaseEndpoints(containerId: string): void {
    this.version++;
    this.#releaseEndpoints.run(containerId);
  }

  /** How many addresses of a family are in use. */
  addressCount(networkId: string, family: 4 | 6): number {
    return this.#addressCount[family].get(networkId)?.count ?? 0;
  }

  /** In use, in the form of `normalAddress`. */
  hasAddress(networkId: string, address: string): boolean {
    return this.#hasAddress[address.includes(':') ? 6 : 4].get(networkId, address) !== undefined;
  }

  /** Addresses in use, of both families. */
  addresses(networkId: string): Set<string> {
    const rows = this.#addresses.all(networkId);
    return new Set(rows.flatMap(({ address, address6 }) => [address, address6]).filter((one) => one !== null));
  }

  /**
   * Calls `fn` with the container whose ports are written or deleted from now on, inside the transaction. Rows of ports are not
   * watched by themselves (`Database.watch`): a container may have hundreds, and each would be a call.
   */
  watchPorts(fn: (containerId: string) => void): void {
    this.#portsWatcher = fn;
  }

  /**
   * All or none, of one container. Kind Conflict when a port is taken on that address (overlap with `0.0.0.0` is found by the
   * socket).
   */
  insertPorts(containerId: string, ports: readonly PortRow[]): void {
    if (ports.length === 0) return;
    this.#portsWatcher(containerId);
    const rows = ports.map(({ proto, hostIp, hostPort, containerIp, containerPort, direct }) => [
      proto,
      hostIp,
      hostPort,
      containerIp,
      containerPort,
      direct ? 1 : 0,
    ]);
    try {
      this.#insertPorts.run({ id: containerId, ports: JSON.stringify(rows) });
    } catch (error) {
      if (!isTaken(error, 'port.host_port')) throw error;
      const place = ({ proto, hostIp, hostPort }: PortRow): string => `${proto} ${hostIp} ${hostPort}`;
      const taken = new Set(this.ports().map(place));
      const { hostIp, hostPort } = ports.find((port) => taken.has(place(port))) ?? (ports[0] as PortRow);
      throw new CaissonError('Conflict', `Bind for ${hostIp}:${hostPort} failed: port is already allocated`, {
        code: 'PORT_IN_USE',
      });
    }
  }

  portsOf(containerId: string): PortRow[] {
    return this.#portsOf.all(containerId).map(loadPort);
  }

  ports(): PortRow[] {
    return this.#ports.all().map(loadPort);
  }

  deletePorts(containerId: string): void {
    this.#portsWatcher(containerId);
    this.#deletePorts.run(containerId);
  }

  #unlessAddressTaken({ address, address6 }: Pick<EndpointRow, 'address' | 'address6'>, write: () => void): void {
    try {
      write();
    } catch (error) {
      const taken = [['endpoint.address', address] as const, ['endpoint.address6', address6] as const];
      const found = taken.find(([column]) => isTaken(error, column));
      if (!found) throw error;
      throw new CaissonError('Conflict', `Address already in use: ${found[1]}`, { code: 'ADDRESS_IN_USE' });
    }
  }
}
