/** Who reaches the published ports of a container, as `caisson ps` says it. */
import { expect, it } from 'vitest';
import { showReach } from '../../ts/cli/commands/ps.ts';

const port = (IP: string, PublicPort?: number) => ({
  IP,
  PrivatePort: 80,
  Type: 'tcp',
  ...(PublicPort !== undefined && { PublicPort }),
});

it.each([
  ['nothing published', [port('')], false, ''],
  ['on every address', [port('0.0.0.0', 8080), port('::', 8080)], false, 'LAN'],
  ['on loopback', [port('127.0.0.1', 8080)], false, 'loopback'],
  ['on loopback, whatever the firewall does', [port('::1', 8080)], true, 'loopback'],
  ['where the host drops it', [port('0.0.0.0', 8080)], true, 'blocked by host firewall'],
  ['one on loopback', [port('0.0.0.0', 80), port('127.0.0.1', 81)], false, '80: LAN, 81: loopback'],
  ['on loopback and elsewhere', [port('127.0.0.1', 80), port('192.0.2.1', 80)], false, 'LAN'],
])('%s', (_what, ports, isClosed, said) => {
  expect(showReach(ports, isClosed)).toBe(said);
});
