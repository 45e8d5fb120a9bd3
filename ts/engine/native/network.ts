/** What the boundary's calls about networks take and give (`index.ts` has the calls). */

export interface BridgeOptions {
  name: string;
  /** The host's own with prefix length, for example `172.17.0.1/16`: one of each family, or none. */
  addresses: string[];
  mtu?: number;
}

/** Tells the neighbours of a device's addresses, `count` times. */
export interface Advertise {
  /** `Native.stopAdvertising` knows it by this; for a port of a bridge the name of the host's end. */
  announcer: string;
  count: number;
  intervalMs: number;
}

export interface EndpointOptions {
  /** From createNetns; not consumed. */
  netnsFd: number;
  bridge: string;
  /** Containers on it do not talk to each other. */
  isolated: boolean;
  /** Name of the host's end; there is none where the bridge had no port left and the container shares one. */
  hostName: string;
  /** Name inside, `eth0`. */
  containerName: string;
  mac: string;
  /** With prefix lengths. */
  addresses: string[];
  /** Where the default routes lead, as in `DeviceRoutes`; empty when another endpoint has them. */
  gateways: string[];
  mtu?: number;
  /** `net.ipv4.conf.eth0.forwarding` → value, set last. */
  sysctls: Record<string, string>;
  advertise: Advertise;
}

/** What leads out by one device. */
export interface DeviceRoutes {
  device: string;
  /** At most one of each family; `0.0.0.0` and `::` for the device alone, whose driver finds the way. */
  gateways: string[];
}

export interface ChildOptions {
  /** From createNetns; not consumed. */
  netnsFd: number;
  kind: 'macvlan' | 'ipvlan';
  /** The host's device. */
  parent: string;
  /** macvlan: bridge, private, vepa, passthru; ipvlan: l2, l3, l3s. */
  mode: string;
  /** ipvlan: bridge, private, vepa. */
  flag: string;
  containerName: string;
  mac: string;
  addresses: string[];
  gateways: string[];
  mtu?: number;
  sysctls: Record<string, string>;
  advertise: Advertise;
}

export interface PublishedPort {
  /** Container id: stands in the element's comment. */
  owner: string;
  proto: 'tcp' | 'udp' | 'sctp';
  /** `0.0.0.0` for every address. */
  hostIp: string;
  hostPort: number;
  containerIp: string;
  containerPort: number;
  /** May be reached by the container's own address: from everywhere in a routed network, else from trusted devices. */
  direct: boolean;
}

/** `nat-unprotected`: every port of a container is open; `routed`: published ones, and nothing is translated. */
export type GatewayMode = 'nat' | 'nat-unprotected' | 'routed' | 'isolated';

export interface BridgeRules {
  bridge: string;
  /** `172.17.0.0/16`, `fd00::/64`: one of each family that the network has. */
  subnets: string[];
  /** Containers on it may talk to each other. */
  icc: boolean;
  masquerade: boolean;
  /** Nothing leads in or out but from the host itself. */
  internal: boolean;
  modeV4: GatewayMode;
  modeV6: GatewayMode;
  /** Devices of the host by which published ports are reached at the containers' own addresses. */
  trusted: string[];
  /** They are reached there by every device. */
  direct: boolean;
  /** Addresses of the host that traffic goes out with, of one family each; what is absent is masqueraded. */
  sources: string[];
}

export interface Ruleset {
  /** Table `inet NAME`. */
  table: string;
  bridges: BridgeRules[];
  ports: PublishedPort[];
  /** `open`: one commented accept rule at the head of foreign forward chains that drop; `respect`: nothing foreign is touched. */
  firewall: 'open' | 'respect';
}

export interface RulesetReport {
  /** The table is owned and persistent (kernel 6.9+): a foreign flush leaves it alone. */
  owned: boolean;
  /** Foreign chains that drop forwarded traffic, as `family table chain`. */
  droppedBy: string[];
  /** The same of iptables-legacy, which only its own program can change. */
  legacyDroppedBy: string[];
}

export interface RouteInfo {
  destination: string;
  device: string;
}
