/** The network through the built addon: what crosses the boundary is what ts/engine/native/index.ts promises. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { packageRoot } from '../../ts/packageRoot.ts';
import { missing } from '../helpers/requires.ts';

/** Runs a body with `native` in a process of its own that has a network namespace of its own: never the machine's. */
function apart<T>(body: string): T {
  const script = `
    import { execFileSync } from 'node:child_process';
    import { readFileSync } from 'node:fs';
    import { loadNative } from ${JSON.stringify(join(packageRoot, 'ts/engine/native/index.ts'))};
    const native = loadNative();
    const shell = (line) => execFileSync('sh', ['-ec', line], { encoding: 'utf8' });
    const failure = (promise) => promise.then(() => null, (error) => ({ kind: error.kind, ...error.cause.failure }));
    const result = await (async () => { ${body} })();
    console.log(JSON.stringify(result));`;
  const argv = ['-n', process.execPath, '--input-type=module-typescript', '-e', script];
  return JSON.parse(execFileSync('unshare', argv, { encoding: 'utf8' })) as T;
}

const BRIDGE = `await native.ensureBridge({ name: 'br0', addresses: ['172.30.0.1/16'], mtu: 1400 });`;
const ENDPOINT = `{ bridge: 'br0', hostName: 'veth0', containerName: 'eth0', mac: '02:42:ac:1e:00:02',
  addresses: ['172.30.0.2/16'], gateways: ['172.30.0.1'], mtu: 1400 }`;
const RULES = `{ table: 'caisson_spec', bridges: [{ bridge: 'br0', subnets: ['172.30.0.0/16'], icc: true, masquerade: true }],
  ports: [], firewall: 'open' }`;
const PORT = `{ owner: 'one', proto: 'tcp', hostIp: '0.0.0.0', hostPort: 8080, containerIp: '172.30.0.2', containerPort: 80 }`;

describe.skipIf(missing('root', 'build', 'ip', 'nft'))('the network in the addon', () => {
  test('attaches a container', () => {
    const seen = apart<{ inside: string; routes: object[]; flags: string }>(`
      ${BRIDGE}
      const netnsFd = await native.createNetns();
      await native.createEndpoint({ netnsFd, ...${ENDPOINT} });
      const inside = shell(\`nsenter --net=/proc/\${process.pid}/fd/\${netnsFd} ip -o addr show\`);
      const flags = readFileSync(\`/proc/self/fdinfo/\${netnsFd}\`, 'utf8').match(/flags:\\s*(\\d+)/)[1];
      return { inside, flags, routes: await native.listRoutes() };`);
    expect(seen.inside).toContain('172.30.0.2/16');
    expect(seen.inside).toContain('127.0.0.1/8');
    expect(seen.routes).toContainEqual({ destination: '172.30.0.0/16', device: 'br0' });
    expect(Number.parseInt(seen.flags, 8) & 0o2000000, 'close-on-exec').not.toBe(0);
  });

  test('keeps the caller’s namespace open and names the link that is in the way', () => {
    const seen = apart<{ first: object; second: object; again: object }>(`
      ${BRIDGE}
      const netnsFd = await native.createNetns();
      await native.createEndpoint({ netnsFd, ...${ENDPOINT} });
      const first = await failure(native.createEndpoint({ netnsFd: await native.createNetns(), ...${ENDPOINT} }));
      await native.deleteLink('veth0');
      const second = await failure(native.deleteLink('veth0'));
      const again = await failure(native.createEndpoint({ netnsFd, ...${ENDPOINT} }));
      return { first, second, again };`);
    expect(seen.first).toMatchObject({ kind: 'conflict', op: 'create veth', path: 'veth0', errno: 17 });
    expect(seen.second).toMatchObject({ kind: 'notFound', op: 'delete link', path: 'veth0' });
    expect(seen.again).toBeNull();
  });

  test('publishes, unpublishes and removes the table', () => {
    const seen = apart<{ report: object; forwarding: boolean[]; lists: string[]; taken: object }>(`
      ${BRIDGE}
      shell('echo 0 > /proc/sys/net/ipv4/ip_forward'); // a new namespace has the value of the machine's
      const forwarding = [await native.enableForwarding(false, true), await native.enableForwarding(false, true)];
      const report = await native.applyRuleset(${RULES});
      const lists = [];
      await native.addPorts('caisson_spec', [${PORT}]);
      lists.push(shell('nft list map inet caisson_spec ports'));
      const taken = await failure(native.addPorts('caisson_spec', [{ ...${PORT}, owner: 'two', containerPort: 81 }]));
      await native.removePorts('caisson_spec', [${PORT}]);
      await native.removePorts('caisson_spec', [${PORT}]);
      lists.push(shell('nft list map inet caisson_spec ports'));
      await native.deleteRuleset('caisson_spec');
      lists.push(shell('nft list ruleset'));
      return { report, forwarding, lists, taken };`);
    expect(seen.report).toMatchObject({ droppedBy: [] });
    expect(seen.forwarding).toEqual([true, false]);
    expect(seen.lists[0]).toContain('tcp . 8080 comment "one" : 172.30.0.2 . 80');
    expect(seen.lists[1]).not.toContain('8080');
    expect(seen.lists[2]).toBe('');
    expect(seen.taken).toMatchObject({
      kind: 'conflict',
      message: 'Bind for 0.0.0.0:8080 failed: port is already allocated to one',
    });
  });

  test('reserves all ports or none, and says who has one', () => {
    const seen = apart<{ fds: number[]; chosen: number; listening: string; clash: object }>(`
      const ask = (proto, hostIp, hostPort) => ({ proto, hostIp, hostPort });
      const ports = await native.reservePorts([ask('tcp', '0.0.0.0', 8080), ask('tcp', '::', 8080), ask('udp', '0.0.0.0', 0)]);
      const clash = await failure(native.reservePorts([ask('tcp', '0.0.0.0', 9000), ask('tcp', '127.0.0.1', 8080)]));
      const listening = shell('cat /proc/net/tcp');
      return { fds: ports.fds, chosen: ports.hostPorts[2], clash, listening };`);
    expect(new Set(seen.fds).size).toBe(3);
    expect(seen.chosen).toBeGreaterThanOrEqual(32768);
    expect(seen.listening).toContain(':1F90 ');
    expect(seen.listening, '9000 was given back').not.toContain(':2328 ');
    expect(seen.clash).toMatchObject({ kind: 'conflict', errno: 98 });
    expect(seen.clash).toMatchObject({ message: 'Bind for 127.0.0.1:8080 failed: port is already allocated' });
  });

  test('an option that is missing is named', () => {
    const seen = apart<object>(`return failure(native.ensureBridge({ name: 'br0' }));`);
    expect(seen).toMatchObject({ kind: 'invalid', message: expect.stringContaining('address') });
  });
});
