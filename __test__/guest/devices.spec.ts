/** Networks without a bridge, on devices that the kernels of CI's machines lack: dummy, VLAN, ipvlan. */
import { spawnSync } from 'node:child_process';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { oracle } from '../helpers/oracle.ts';
import { missing } from '../helpers/requires.ts';

const daemon = new TestDaemon();
const ok = (...args: string[]): Promise<string> => daemon.dockerOk(...args);
const links = (): string => spawnSync('ip', ['-o', 'link'], { encoding: 'utf8' }).stdout;
const create = (driver: string, name: string, ...flags: string[]): Promise<string> =>
  ok('network', 'create', '-d', driver, ...flags, name);

/** What a second container on the network sees of the first, and its routes. */
async function neighbours(network: string): Promise<string> {
  await ok('run', '-d', '--name', 'near', '--network', network, 'busybox', 'sleep', '1000');
  return ok('run', '--rm', '--network', network, 'busybox', 'sh', '-c', 'ping -c1 -W5 near; ip route');
}

describe.skipIf(missing('root', 'build', 'docker', 'busybox', 'ip'))('networks on devices', () => {
  beforeAll(async () => {
    expect(spawnSync('ip', ['link', 'add', 'lan0', 'type', 'veth', 'peer', 'lan1']).status).toBe(0);
    for (const end of ['lan0', 'lan1']) spawnSync('ip', ['link', 'set', end, 'up']);
    await daemon.start();
    await daemon.loadBusybox();
  });
  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
    spawnSync('ip', ['link', 'del', 'lan0']);
  });
  afterEach(async () => {
    await daemon.removeContainers();
    await ok('network', 'prune', '-f');
    expect(links()).not.toMatch(/\b(dm|di)-|lan0\.7/);
    expect(await oracle(daemon)).toEqual([]);
  });

  it.each(['macvlan', 'ipvlan'])('without a parent %s joins its containers, and leads nowhere', async (driver) => {
    const id = await create(driver, 'nowhere', '--subnet', '10.201.1.0/24');
    expect(links()).toContain(` d${driver.slice(0, 1)}-${id.slice(0, 12)}:`);
    const seen = await neighbours('nowhere');
    expect(seen).toContain('1 packets received');
    expect(seen).not.toContain('default');
  });

  it('a VLAN is made for the networks that name it, and goes with the last', async () => {
    for (const number of [1, 2])
      await create('macvlan', `vlan${number}`, '-o', 'parent=lan0.7', '--subnet', `10.201.${number}.0/24`);
    await ok('network', 'rm', 'vlan1');
    expect(links()).toContain(' lan0.7@lan0:');
    expect(await neighbours('vlan2')).toContain('1 packets received');
    expect(
      (await daemon.docker(['network', 'create', '-d', 'macvlan', '-o', 'parent=nope.7', 'lost'])).stderr,
    ).toContain("'nope'");
  });

  it.each([
    ['l2', 'default via 10.201.3.1 dev eth0'],
    ['l3', 'default dev eth0'],
    ['l3s', 'default dev eth0'],
  ])('ipvlan in mode %s: %s', async (mode, route) => {
    await create('ipvlan', 'own', '-o', 'parent=lan0', '-o', `ipvlan_mode=${mode}`, '--subnet', '10.201.3.0/24');
    const seen = await neighbours('own');
    expect(seen).toContain('1 packets received');
    expect(seen).toContain(route);
  });
});
