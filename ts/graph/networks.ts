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
  internal: boolean;
  attachable: boolean;
  /** JSON objects. */
  options: string;
  labels: string;
  detail: string;
  created: string;
}

/** Attachment of a container to a network; `address`, `mac` and `hostName` are null while it is not running. */
export interface EndpointRow {
  /** 64 hex digits. */
  id: string;
  containerId: string;
  networkId: string;
  /** Inside: `eth0`. */
  interface: string;
  /** The host's end of the veth pair. */
  hostName: string | null;
  mac: string | null;
  /** Without the prefix length. */
  address: string | null;
  prefixLength: number | null;
  gateway: string | null;
  /** JSON array of names. */
  aliases: string;
  /** JSON: what the user asked for (fixed address, links, driver options). */
  config: string;
}

export interface PortRow {
  proto: 'tcp' | 'udp' | 'sctp';
  /** `0.0.0.0` for every address. */
  hostIp: string;
  hostPort: number;
  containerId: string;
  containerIp: string;
  containerPort: number;
}

type StoredNetwork = Omit<NetworkRow, 'internal' | 'attachable'> & { internal: number; attachable: number };
type Addressing = Pick<EndpointRow, 'id' | 'hostName' | 'mac' | 'address' | 'prefixLength' | 'gateway'>;

const NETWORK =
  'id, name, driver, bridge, subnet, gateway, ip_range AS ipRange, internal, attachable, options, labels, detail, created';
const ENDPOINT =
  'id, container_id AS containerId, network_id AS networkId, interface, host_name AS hostName, mac, address, ' +
  'prefix_length AS prefixLength, gateway, aliases, config';
const PORT =
  'proto, host_ip AS hostIp, host_port AS hostPort, container_id AS containerId, container_ip AS containerIp, ' +
  'container_port AS containerPort';

const load = (row: StoredNetwork): NetworkRow => ({
  ...row,
  internal: row.internal === 1,
  attachable: row.attachable === 1,
});

export class NetworkStore {
  readonly #prefix: PrefixLookup;
  readonly #insert: Statement<[StoredNetwork], never>;
  readonly #get: Statement<[string], StoredNetwork>;
  readonly #byName: Statement<[string], StoredNetwork>;
  readonly #all: Statement<[], StoredNetwork>;
  readonly #delete: Statement<[string], never>;
  readonly #insertEndpoint: Statement<[EndpointRow], never>;
  readonly #updateEndpoint: Statement<[Addressing], never>;
  readonly #endpointsOf: Statement<[string], EndpointRow>;
  readonly #endpointsOn: Statement<[string], EndpointRow>;
  readonly #allEndpoints: Statement<[], EndpointRow>;
  readonly #deleteEndpoint: Statement<[string], never>;
  readonly #releaseEndpoints: Statement<[string], never>;
  readonly #addresses: Statement<[string], { address: string }>;
  readonly #insertPort: Statement<[PortRow], never>;
  readonly #portsOf: Statement<[string], PortRow>;
  readonly #ports: Statement<[], PortRow>;
  readonly #deletePorts: Statement<[string], never>;

  constructor(db: Database) {
    this.#prefix = new PrefixLookup(db, 'network', 'id');
    this.#insert = db.prepare(`
      INSERT INTO network VALUES (@id, @name, @driver, @bridge, @subnet, @gateway, @ipRange, @internal, @attachable,
        @options, @labels, @detail, @created)`);
    this.#get = db.prepare(`SELECT ${NETWORK} FROM network WHERE id = ?`);
    this.#byName = db.prepare(`SELECT ${NETWORK} FROM network WHERE name = ?`);
    this.#all = db.prepare(`SELECT ${NETWORK} FROM network ORDER BY created, id`);
    this.#delete = db.prepare('DELETE FROM network WHERE id = ?');
    this.#insertEndpoint = db.prepare(`
      INSERT INTO endpoint VALUES (@id, @containerId, @networkId, @interface, @hostName, @mac, @address, @prefixLength,
        @gateway, @aliases, @config)`);
    this.#updateEndpoint = db.prepare(`
      UPDATE endpoint SET host_name = @hostName, mac = @mac, address = @address, prefix_length = @prefixLength,
        gateway = @gateway WHERE id = @id`);
    this.#endpointsOf = db.prepare(`SELECT ${ENDPOINT} FROM endpoint WHERE container_id = ? ORDER BY interface`);
    this.#endpointsOn = db.prepare(`SELECT ${ENDPOINT} FROM endpoint WHERE network_id = ? ORDER BY container_id`);
    this.#allEndpoints = db.prepare(`SELECT ${ENDPOINT} FROM endpoint ORDER BY container_id, interface`);
    this.#deleteEndpoint = db.prepare('DELETE FROM endpoint WHERE id = ?');
    this.#releaseEndpoints = db.prepare(`
      UPDATE endpoint SET host_name = NULL, mac = NULL, address = NULL, prefix_length = NULL, gateway = NULL
      WHERE container_id = ?`);
    this.#addresses = db.prepare('SELECT address FROM endpoint WHERE network_id = ? AND address IS NOT NULL');
    this.#insertPort = db.prepare(
      'INSERT INTO port VALUES (@proto, @hostIp, @hostPort, @containerId, @containerIp, @containerPort)',
    );
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

  /** Fails while a container has an endpoint on it. */
  delete(id: string): void {
    this.#delete.run(id);
  }

  /** Kind Conflict when the address is taken in that network. */
  insertEndpoint(endpoint: EndpointRow): void {
    this.#unlessAddressTaken(endpoint.address, () => this.#insertEndpoint.run(endpoint));
  }

  /** Sets what a start chose. Kind Conflict when the address is taken in that network. */
  updateEndpoint(addressing: Addressing): void {
    this.#unlessAddressTaken(addressing.address, () => this.#updateEndpoint.run(addressing));
  }

  endpointsOf(containerId: string): EndpointRow[] {
    return this.#endpointsOf.all(containerId);
  }

  endpointsOn(networkId: string): EndpointRow[] {
    return this.#endpointsOn.all(networkId);
  }

  allEndpoints(): EndpointRow[] {
    return this.#allEndpoints.all();
  }

  deleteEndpoint(id: string): void {
    this.#deleteEndpoint.run(id);
  }

  /** The container has stopped: its addresses and device names are free again. */
  releaseEndpoints(containerId: string): void {
    this.#releaseEndpoints.run(containerId);
  }

  /** Addresses in use. */
  addresses(networkId: string): Set<string> {
    return new Set(this.#addresses.all(networkId).map((row) => row.address));
  }

  /** Kind Conflict when the port is taken on that address (overlap with `0.0.0.0` is found by the socket). */
  insertPort(port: PortRow): void {
    try {
      this.#insertPort.run(port);
    } catch (error) {
      if (!isTaken(error, 'port.host_port')) throw error;
      throw new CaissonError('Conflict', `Bind for ${port.hostIp}:${port.hostPort} failed: port is already allocated`, {
        code: 'PORT_IN_USE',
      });
    }
  }

  portsOf(containerId: string): PortRow[] {
    return this.#portsOf.all(containerId);
  }

  ports(): PortRow[] {
    return this.#ports.all();
  }

  deletePorts(containerId: string): void {
    this.#deletePorts.run(containerId);
  }

  #unlessAddressTaken(address: string | null, write: () => void): void {
    try {
      write();
    } catch (error) {
      if (!isTaken(error, 'endpoint.address')) throw error;
      throw new CaissonError('Conflict', `Address already in use: ${address}`, { code: 'ADDRESS_IN_USE' });
    }
  }
}
