/** `-p [[ip:][hostPort]:]containerPort[/protocol]`, with ranges. */
import type { PortBinding } from '../client/index.ts';
import { invalidFlag } from './units.ts';

function range(text: string, flag: string, whole: string): number[] {
  const [, from, to = from] = /^(\d+)(?:-(\d+))?$/.exec(text) ?? [];
  const [first, last] = [Number(from), Number(to)];
  if (from === undefined || first < 0 || last > 65535 || last < first)
    throw invalidFlag(flag, whole, `invalid port ${JSON.stringify(text)}`);
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

/** Of a container port, its protocol. */
function protocolOf(text: string, flag: string, whole: string): [ports: string, protocol: string] {
  const [ports = '', protocol = 'tcp', ...more] = text.split('/');
  if (!['tcp', 'udp', 'sctp'].includes(protocol.toLowerCase()) || more.length > 0)
    throw invalidFlag(flag, whole, `invalid proto: ${protocol}`);
  return [ports, protocol.toLowerCase()];
}

export function parsePorts(publish: readonly string[]): Record<string, PortBinding[]> {
  const bindings: Record<string, PortBinding[]> = {};
  for (const value of publish) {
    const [, v6, v4, host = '', container = ''] =
      /^(?:(?:\[([^\]]*)\]|([^:]*)):)?(?:([^:]*):)?([^:]+)$/.exec(value.replace(/^([^:[]*):([^:]*)$/, ':$1:$2')) ?? [];
    if (container === '') throw invalidFlag('--publish', value, 'invalid containerPort');
    const [ports, protocol] = protocolOf(container, '--publish', value);
    const inside = range(ports, '--publish', value);
    const outside = host === '' ? [] : range(host, '--publish', value);
    if (outside.length > 0 && outside.length !== inside.length && inside.length !== 1)
      throw invalidFlag('--publish', value, 'invalid ranges specified for container and host Ports');
    for (const [i, port] of inside.entries()) {
      const hostPort = inside.length === 1 ? host : String(outside[i] ?? '');
      const key = `${port}/${protocol}`;
      bindings[key] = [...(bindings[key] ?? []), { HostIp: v6 ?? v4 ?? '', HostPort: hostPort }];
    }
  }
  return bindings;
}

export function parseExposed(values: readonly string[]): Record<string, object> {
  const exposed: Record<string, object> = {};
  for (const value of values) {
    const [ports, protocol] = protocolOf(value, '--expose', value);
    for (const port of range(ports, '--expose', value)) exposed[`${port}/${protocol}`] = {};
  }
  return exposed;
}
