/**
 * The daemon's nftables table: what stands in it, kept here as well, so that it can be written anew whenever somebody else
 * has flushed it. A port or a bridge is an element; the rules themselves never change.
 */
import type { Logger } from '../../log.ts';
import type { DaemonConfig } from '../config.ts';
import type { Native } from '../native/index.ts';
import type { BridgeRules, PublishedPort, RulesetReport } from '../native/network.ts';

/** Others load their rules in several transactions: one repair for all of them. */
const REPAIR_DELAY_MS = 100;

const keyOf = ({ proto, hostIp, hostPort }: PublishedPort): string => `${proto} ${hostIp} ${hostPort}`;

export class Firewall {
  /** The nftables table; one per default bridge, so that two daemons do not share one. */
  readonly table: string;
  readonly #native: Native;
  readonly #config: DaemonConfig;
  readonly #log: Logger;
  readonly #bridges = new Map<string, BridgeRules>();
  readonly #ports = new Map<string, PublishedPort>();
  #applied: Promise<void> | undefined;
  #repairs: { timer: NodeJS.Timeout; ours: boolean } | undefined;
  #closedBy: string[] = [];

  constructor(native: Native, config: DaemonConfig, log: Logger, table: string) {
    this.#native = native;
    this.#config = config;
    this.#log = log;
    this.table = table;
  }

  /** The table is there. */
  get ready(): boolean {
    return this.#applied !== undefined;
  }

  /** Chains of the host that drop what comes for published ports. */
  get closedBy(): readonly string[] {
    return this.#closedBy;
  }

  /** Writes the table for the first time and watches it from then on; takes away what a daemon that had one has left. */
  async open(bridges: BridgeRules[], ports: PublishedPort[]): Promise<void> {
    if (!this.#config.iptables) return this.#native.deleteRuleset(this.table);
    for (const rules of bridges) this.#bridges.set(rules.bridge, rules);
    for (const port of ports) this.#ports.set(keyOf(port), port);
    await this.#apply();
    await this.#native.watchFirewall(this.table, (change) => this.#repairSoon(change));
  }

  /** The rules depend on what the host does: written anew, if they are there. */
  async rewrite(): Promise<void> {
    if (this.ready) await this.#apply();
  }

  #apply(): Promise<void> {
    const written = this.#write();
    // who waits only wants its turn
    this.#applied = written.catch(() => undefined);
    return written;
  }

  async #write(): Promise<void> {
    const report = await this.#native.applyRuleset({
      table: this.table,
      bridges: [...this.#bridges.values()],
      ports: [...this.#ports.values()],
      firewall: this.#config.firewall,
    });
    this.#warn(report);
  }

  /** Says once what keeps containers from being reached, and again when that has changed. */
  #warn({ droppedBy, legacyDroppedBy }: RulesetReport): void {
    const { firewall } = this.#config;
    const closed = [...(firewall === 'respect' ? droppedBy : []), ...legacyDroppedBy].sort();
    if (closed.join() === this.#closedBy.join()) return;
    this.#closedBy = closed;
    if (closed.length === 0) return;
    const allow = legacyDroppedBy.map((chain) => {
      const [program = ''] = chain.split(' ');
      return `${program} -I FORWARD -m mark --mark 0x1000000/0x1000000 -j ACCEPT`;
    });
    this.#log.warn(
      { chains: closed, ...(allow.length > 0 ? { allow } : {}) },
      'chains of the host drop forwarded traffic: published ports are closed, and containers reach only the host',
    );
  }

  #repairSoon(change: 'ours' | 'foreign'): void {
    if (this.#repairs) {
      this.#repairs.ours ||= change === 'ours';
      return;
    }
    const timer = setTimeout(() => void this.#repair(), REPAIR_DELAY_MS);
    timer.unref();
    this.#repairs = { timer, ours: change === 'ours' };
  }

  async #repair(): Promise<void> {
    const ours = this.#repairs?.ours ?? false;
    this.#repairs = undefined;
    try {
      if (ours) {
        await this.#apply();
        this.#log.warn({ table: this.table }, 'another program changed the firewall table: it was written anew');
      } else {
        this.#warn(await this.#native.refreshForeign(this.table, this.#config.firewall));
      }
    } catch (error) {
      this.#log.error({ err: error, table: this.table }, 'the firewall could not be repaired');
    }
  }

  /** Kind Conflict when a port leads elsewhere. What comes while the table is written waits for its end. */
  async addPorts(ports: PublishedPort[]): Promise<void> {
    if (!this.#config.iptables) return;
    const added = ports.filter((port) => !this.#ports.has(keyOf(port)));
    for (const port of added) this.#ports.set(keyOf(port), port);
    await this.#applied;
    try {
      await this.#native.addPorts(this.table, ports);
    } catch (error) {
      for (const port of added) this.#ports.delete(keyOf(port));
      throw error;
    }
  }

  async removePorts(ports: PublishedPort[]): Promise<void> {
    if (ports.length === 0 || !this.ready) return;
    for (const port of ports) if (this.#ports.get(keyOf(port))?.owner === port.owner) this.#ports.delete(keyOf(port));
    await this.#applied;
    await this.#native.removePorts(this.table, ports);
  }

  async addBridge(rules: BridgeRules): Promise<void> {
    if (!this.#config.iptables) return;
    this.#bridges.set(rules.bridge, rules);
    await this.#applied;
    await this.#native.addBridgeRules(this.table, rules);
  }

  async removeBridge(rules: BridgeRules): Promise<void> {
    this.#bridges.delete(rules.bridge);
    if (!this.ready) return;
    await this.#applied;
    await this.#native.removeBridgeRules(this.table, rules);
  }
}
