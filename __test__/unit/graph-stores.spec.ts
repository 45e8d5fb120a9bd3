import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { CaissonError, type ErrorKind } from '../../ts/errdefs.ts';
import type { ContainerDefinition } from '../../ts/graph/containers.ts';
import { Database } from '../../ts/graph/db.ts';
import { Graph } from '../../ts/graph/graph.ts';
import type { LayerRow } from '../../ts/graph/layers.ts';
import type { EndpointRow, NetworkRow } from '../../ts/graph/networks.ts';

let dir: string;
let graph: Graph;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'caisson-graph-'));
  graph = new Graph(new Database(join(dir, 'graph.db')));
});

afterEach(async () => {
  await graph.db.close();
  rmSync(dir, { recursive: true });
});

const id = (prefix: string): string => prefix.padEnd(64, '0');

const container = (containerId: string, name: string, chainId: string | null = null): ContainerDefinition => ({
  id: containerId,
  name,
  imageId: 'sha256:aa',
  imageName: 'busybox',
  chainId,
  created: '2026-01-01T00:00:00.000000001Z',
  config: '{}',
  hostConfig: '{}',
  detail: '{}',
});

const layer = (chainId: string, parent: string | null = null): LayerRow => ({
  chainId,
  diffId: `diff-${chainId}`,
  parent,
  cacheId: `cache-${chainId}`,
  sizeBytes: 10,
  blobDigest: null,
  blobSizeBytes: null,
  blobMediaType: null,
  createdMs: 1,
  keepsBlob: 1,
});

const network: NetworkRow = {
  id: id('beef'),
  name: 'bridge',
  driver: 'bridge',
  bridge: 'caisson0',
  subnet: '172.17.0.0/16',
  gateway: '172.17.0.1',
  ipRange: null,
  subnet6: null,
  gateway6: null,
  ipRange6: null,
  internal: false,
  attachable: true,
  options: '{}',
  labels: '{}',
  detail: '{}',
  created: '2026-01-01T00:00:00Z',
};

const endpoint = (endpointId: string, containerId: string, address: string | null): EndpointRow => ({
  id: id(endpointId),
  containerId,
  networkId: network.id,
  networkName: network.name,
  interface: 'eth0',
  hostName: null,
  mac: null,
  address,
  prefixLength: 16,
  gateway: '172.17.0.1',
  address6: null,
  prefixLength6: null,
  gateway6: null,
  leadsOut: { 4: false, 6: false },
  aliases: '[]',
  config: '{}',
});

function failure(fn: () => unknown): { kind: ErrorKind; message: string } {
  try {
    fn();
  } catch (error) {
    if (error instanceof CaissonError) return { kind: error.kind, message: error.message };
    throw error;
  }
  throw new Error('did not fail');
}

describe('containers', () => {
  test('are found by id, name, slashed name and prefix, in this order', () => {
    graph.containers.insert(container(id('abc1'), 'web'));
    graph.containers.insert(container(id('abd2'), 'abc1'));
    expect(graph.containers.resolve(id('abc1')).name).toBe('web');
    expect(graph.containers.resolve('/web').id).toBe(id('abc1'));
    expect(graph.containers.resolve('abd').name).toBe('abc1');
    expect(graph.containers.resolve('abc1').id).toBe(id('abd2'));
    expect(graph.containers.resolve('abc10').id).toBe(id('abc1'));
  });

  test('say what Docker says when none or several match', () => {
    graph.containers.insert(container(id('abc1'), 'a'));
    graph.containers.insert(container(id('abd2'), 'b'));
    expect(failure(() => graph.containers.resolve('ab'))).toEqual({
      kind: 'InvalidParameter',
      message: 'multiple IDs found with provided prefix: ab',
    });
    expect(failure(() => graph.containers.resolve('zz'))).toEqual({
      kind: 'NotFound',
      message: 'No such container: zz',
    });
    expect(failure(() => graph.containers.resolve('')).kind).toBe('InvalidParameter');
    expect(failure(() => graph.containers.resolve('a%')).kind).toBe('NotFound');
  });

  test('keep their name to themselves, at create and at rename', () => {
    graph.containers.insert(container(id('a'), 'web'));
    graph.containers.insert(container(id('b'), 'db'));
    const expected = {
      kind: 'Conflict',
      message: `Conflict. The container name "/web" is already in use by container "${id('a')}". You have to remove (or rename) that container to be able to reuse that name.`,
    };
    expect(failure(() => graph.containers.insert(container(id('c'), 'web')))).toEqual(expected);
    expect(failure(() => graph.containers.rename(id('b'), 'web'))).toEqual(expected);
    graph.containers.rename(id('a'), 'www');
    graph.containers.rename(id('b'), 'web');
    expect(graph.containers.byName('web')?.id).toBe(id('b'));
  });

  test('of an image that was removed meanwhile are not made', () => {
    expect(failure(() => graph.containers.insert(container(id('a'), 'web', 'gone')))).toEqual({
      kind: 'NotFound',
      message: 'No such image: busybox',
    });
  });

  test('change only the state that a patch names', () => {
    graph.containers.insert(container(id('a'), 'web'));
    graph.containers.updateState(id('a'), { status: 'running', pid: 7, oomKilled: true });
    graph.containers.updateState(id('a'), { exitCode: 3 });
    expect(graph.containers.get(id('a'))).toMatchObject({ status: 'running', pid: 7, oomKilled: true, exitCode: 3 });
    expect(failure(() => graph.containers.updateState(id('b'), {})).kind).toBe('NotFound');
  });

  test('take endpoints, ports, execs and volume references along, not the volume', () => {
    graph.networks.insert(network);
    graph.containers.insert(container(id('a'), 'web'));
    graph.networks.insertEndpoint(endpoint('1', id('a'), '172.17.0.2'));
    graph.networks.insertPorts(id('a'), [
      {
        proto: 'tcp',
        hostIp: '0.0.0.0',
        hostPort: 80,
        containerId: id('a'),
        containerIp: '172.17.0.2',
        containerPort: 80,
        direct: false,
      },
    ]);
    graph.execs.insert({
      id: id('e'),
      containerId: id('a'),
      config: '{}',
      status: 'created',
      pid: 0,
      exitCode: null,
      createdMs: 1,
    });
    graph.volumes.insert({
      name: 'data',
      driver: 'local',
      mountpoint: '/v',
      anonymous: true,
      options: '{}',
      labels: '{}',
      created: '',
    });
    graph.volumes.attach(id('a'), '/data', 'data');
    expect(failure(() => graph.volumes.delete('data'))).toEqual({
      kind: 'Conflict',
      message: `remove data: volume is in use - [${id('a')}]`,
    });
    graph.containers.delete(id('a'));
    expect(graph.networks.allEndpoints()).toEqual([]);
    expect(graph.networks.ports()).toEqual([]);
    expect(graph.execs.get(id('e'))).toBeUndefined();
    expect(graph.volumes.unused().map((volume) => volume.name)).toEqual(['data']);
    graph.volumes.delete('data');
    expect(graph.volumes.all()).toEqual([]);
    expect(graph.db.integrityErrors()).toEqual([]);
  });
});

describe('networks', () => {
  test('give an address and a port to one container', () => {
    graph.networks.insert(network);
    graph.containers.insert(container(id('a'), 'a'));
    graph.containers.insert(container(id('b'), 'b'));
    graph.networks.insertEndpoint(endpoint('1', id('a'), '172.17.0.2'));
    expect(failure(() => graph.networks.insertEndpoint(endpoint('2', id('b'), '172.17.0.2'))).kind).toBe('Conflict');
    graph.networks.insertEndpoint(endpoint('2', id('b'), null));
    graph.networks.releaseEndpoints(id('a'));
    graph.networks.updateEndpoint({ ...endpoint('2', id('b'), '172.17.0.2'), hostName: 'v1', mac: 'm' });
    expect(graph.networks.addresses(network.id)).toEqual(new Set(['172.17.0.2']));

    const port = { hostPort: 80, containerIp: '172.17.0.2', containerPort: 80, direct: false } as const;
    graph.networks.insertPorts(id('a'), [{ ...port, proto: 'tcp', hostIp: '0.0.0.0', containerId: id('a') }]);
    graph.networks.insertPorts(id('b'), [{ ...port, proto: 'udp', hostIp: '0.0.0.0', containerId: id('b') }]);
    expect(
      failure(() =>
        graph.networks.insertPorts(id('b'), [{ ...port, proto: 'tcp', hostIp: '0.0.0.0', containerId: id('b') }]),
      ),
    ).toEqual({ kind: 'Conflict', message: 'Bind for 0.0.0.0:80 failed: port is already allocated' });
  });

  test('tell once of ports that are written or deleted together', () => {
    graph.containers.insert(container(id('a'), 'a'));
    const told: string[] = [];
    graph.networks.watchPorts((containerId) => told.push(containerId));
    const port = {
      proto: 'tcp',
      hostIp: '::',
      containerId: id('a'),
      containerIp: '172.17.0.2',
      direct: false,
    } as const;
    const rows = [80, 81, 82].map((number) => ({ ...port, hostPort: number, containerPort: number }));
    graph.networks.insertPorts(id('a'), rows);
    expect([told, graph.networks.portsOf(id('a'))]).toEqual([[id('a')], rows]);
    graph.networks.deletePorts(id('a'));
    expect([told, graph.networks.portsOf(id('a'))]).toEqual([[id('a'), id('a')], []]);
  });

  test('are found by name and prefix', () => {
    graph.networks.insert(network);
    expect(graph.networks.resolve('bridge').attachable).toBe(true);
    expect(graph.networks.resolve('bee').name).toBe('bridge');
    expect(failure(() => graph.networks.resolve('nope'))).toEqual({
      kind: 'NotFound',
      message: 'network nope not found',
    });
    expect(failure(() => graph.networks.insert({ ...network, id: id('2'), bridge: null })).message).toBe(
      'network with name bridge already exists',
    );
  });
});

describe('images', () => {
  const image = (imageId: string) => ({
    id: imageId,
    config: '{}',
    manifestDigest: null,
    sizeBytes: 1,
    parent: null,
    createdMs: 1,
    taggedMs: null,
  });
  const reference = (tag: string, imageId: string) => ({
    name: `docker.io/library/busybox:${tag}`,
    repository: 'docker.io/library/busybox',
    tag,
    digest: null,
    imageId,
  });

  test('hold their layers in order, and the layers their chain', () => {
    graph.layers.insert(layer('z'));
    graph.layers.insert(layer('a', 'z'));
    graph.layers.insert(layer('m', 'a'));
    expect(graph.layers.insert(layer('m', 'a'))).toBe(false);
    graph.images.insert({ image: image('sha256:1'), layers: ['z', 'a', 'm'], blobs: [] });
    expect(graph.images.layers('sha256:1')).toEqual(['z', 'a', 'm']);
    expect(graph.layers.chain('m').map((row) => row.chainId)).toEqual(['m', 'a', 'z']);
    expect(() => graph.layers.delete('z')).toThrow(/FOREIGN KEY/);
  });

  test('move a name, and lose it with the image', () => {
    graph.images.insert({ image: image(`sha256:${id('aa')}`), layers: [], blobs: [] });
    graph.images.insert({ image: image(`sha256:${id('ab')}`), layers: [], blobs: [] });
    graph.images.setReference(reference('latest', `sha256:${id('aa')}`), 5);
    graph.images.setReference(reference('latest', `sha256:${id('ab')}`), 6);
    expect(graph.images.referencesOf(`sha256:${id('aa')}`)).toEqual([]);
    expect(graph.images.get(`sha256:${id('ab')}`)?.taggedMs).toBe(6);
    expect(graph.images.findByPrefix('a')).toHaveLength(2);
    expect(graph.images.findByPrefix('sha256:ab')).toEqual([`sha256:${id('ab')}`]);
    expect(graph.images.findByPrefix('busybox')).toEqual([]);
    graph.images.delete(`sha256:${id('ab')}`);
    expect(graph.images.reference('docker.io/library/busybox:latest')).toBeUndefined();
  });
});

describe('events', () => {
  const event = (action: string) => ({ type: 'container', action, actorId: 'x', attributes: { name: 'web' } });

  test('are heard after the commit, never of a transaction rolled back', () => {
    const heard: string[] = [];
    const end = graph.events.listen((row) => heard.push(row.action));
    graph.db.transaction(() => {
      graph.events.append(event('create'));
      expect(heard).toEqual([]);
    });
    expect(() =>
      graph.db.transaction(() => {
        graph.events.append(event('start'));
        throw new Error('no');
      }),
    ).toThrow('no');
    graph.events.append(event('die'));
    end();
    graph.events.append(event('destroy'));
    expect(heard).toEqual(['create', 'die']);
    const kept = graph.events.between(0n, 1n << 62n);
    expect(kept.map((row) => row.action)).toEqual(['create', 'die', 'destroy']);
    expect(kept[0]?.attributes).toEqual({ name: 'web' });
  });

  test('have times that ascend, also over a restart', async () => {
    graph.events.append(event('a'));
    graph.events.append(event('b'));
    await graph.db.close();
    graph = new Graph(new Database(join(dir, 'graph.db')));
    graph.events.append(event('c'));
    const [a, b, c] = graph.events.between(0n, 1n << 62n);
    expect(a && b && c && a.timeNs < b.timeNs && b.timeNs < c.timeNs).toBe(true);
    expect(c?.seq).toBe(3);
    expect(graph.events.between(b?.timeNs ?? 0n, b?.timeNs ?? 0n).map((row) => row.action)).toEqual(['b']);
  });
});
