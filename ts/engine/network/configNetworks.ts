/** Networks that hold settings for others (`--config-only`), and those made from them (`--config-from`). */
import { CaissonError } from '../../errdefs.ts';
import type { Graph } from '../../graph/graph.ts';
import type { NetworkRow } from '../../graph/networks.ts';
import type { NetworkCreateBody } from '../api/schemas/networks.ts';
import { networkDetail } from './settings.ts';

const forbid = (message: string): CaissonError => new CaissonError('Forbidden', message);

export function checkConfigOnly(body: NetworkCreateBody): void {
  if (!body.ConfigOnly) return;
  if (body.Ingress || body.Internal || body.Attachable || body.Scope) {
    throw forbid(
      'configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported.',
    );
  }
  if (body.ConfigFrom?.Network) {
    throw forbid('a configuration network cannot depend on another configuration network');
  }
}

/** The row of one that only holds settings: without a device, and with the settings as they were given. */
export function configOnlyRow(row: NetworkRow, body: NetworkCreateBody): NetworkRow {
  const detail = {
    configOnly: true,
    ipamConfig: body.IPAM?.Config ?? [],
    ipamOptions: body.IPAM?.Options ?? null,
    ipv6: body.EnableIPv6 ?? false,
  };
  return { ...row, driver: 'null', bridge: null, detail: JSON.stringify(detail) };
}

/** The request as if it had named all settings itself. */
export function withConfig({ networks }: Graph, body: NetworkCreateBody): NetworkCreateBody {
  const name = body.ConfigFrom?.Network;
  if (!name) return body;
  const { IPAM: ipam } = body;
  const own =
    (ipam?.Driver && ipam.Driver !== 'default') ||
    body.EnableIPv4 === false ||
    body.EnableIPv6 ||
    [body.Labels, ipam?.Options, ipam?.Config].some((settings) => Object.keys(settings ?? {}).length > 0);
  if (own) {
    throw forbid('user specified configurations are not supported if the network depends on a configuration network');
  }
  if (Object.keys(body.Options ?? {}).length > 0) {
    throw forbid('network driver options are not supported if the network depends on a configuration network');
  }
  const row = networks.byName(name);
  if (!row || !networkDetail(row).configOnly) {
    throw new CaissonError('NotFound', `configuration network "${name}" does not exist`);
  }
  const detail = networkDetail(row);
  return {
    ...body,
    EnableIPv6: detail.ipv6,
    IPAM: { Driver: 'default', Options: detail.ipamOptions, Config: detail.ipamConfig },
    Options: JSON.parse(row.options) as Record<string, string>,
    Labels: JSON.parse(row.labels) as Record<string, string>,
  };
}

export function checkUnused({ networks }: Graph, row: NetworkRow): void {
  if (networkDetail(row).configOnly && networks.all().some((other) => networkDetail(other).configFrom === row.name)) {
    throw forbid(`error while removing network: configuration network "${row.name}" is in use`);
  }
}
