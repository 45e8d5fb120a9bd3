/** What a create request means that names an older version of the API. */
import { describe, expect, it } from 'vitest';
import { currentCreate } from '../../ts/engine/api/createVersions.ts';
import { compareVersions } from '../../ts/engine/api/normalise.ts';
import type { CreateBody } from '../../ts/engine/api/schemas/containers.ts';

const as = (version: string, body: CreateBody): CreateBody =>
  currentCreate(body, (wanted) => compareVersions(version, wanted) < 0);

const volume = { Type: 'volume', Target: '/v', BindOptions: null, VolumeOptions: { Subpath: 'a' } };
const endpoints = { EndpointsConfig: { a: {}, b: {} } };

describe('create', () => {
  it.each([
    ['1.24', { AutoRemove: true }, { AutoRemove: false, IpcMode: 'shareable' }],
    ['1.39', { IpcMode: 'none' }, { IpcMode: 'none' }],
    ['1.41', { ConsoleSize: [2, 3] }, { ConsoleSize: [0, 0] }],
    ['1.42', { Annotations: { a: 'b' }, ConsoleSize: [2, 3] }, { Annotations: null, ConsoleSize: [2, 3] }],
    ['1.51', { Annotations: { a: 'b' }, AutoRemove: true }, { Annotations: { a: 'b' }, AutoRemove: true }],
  ])('of %s with %j', (version, config, expected) => {
    expect(as(version, { HostConfig: config }).HostConfig).toMatchObject(expected);
  });

  it('gives a mount no options that its version did not know', () => {
    const bind = {
      Type: 'bind',
      Source: '/',
      Target: '/b',
      BindOptions: { NonRecursive: true, CreateMountpoint: true },
    };
    const mount = (version: string) =>
      as(version, { HostConfig: { Mounts: [bind] } }).HostConfig?.Mounts?.[0]?.BindOptions;
    expect(mount('1.39')).toEqual({ NonRecursive: false, CreateMountpoint: false });
    expect(mount('1.41')).toEqual({ NonRecursive: true, CreateMountpoint: false });
    expect(mount('1.51')).toEqual(bind.BindOptions);
  });

  it.each<[string, CreateBody, string]>([
    ['1.43', { NetworkingConfig: endpoints }, 'Container cannot be created with multiple network endpoints: a, b'],
    ['1.44', { HostConfig: { Mounts: [volume] } }, 'VolumeOptions.Subpath needs API v1.45 or newer'],
    [
      '1.47',
      { HostConfig: { Mounts: [{ Type: 'image', Target: '/i' }] } },
      'Mount type "Image" needs API v1.48 or newer',
    ],
    [
      '1.51',
      { HostConfig: { Mounts: [{ ...volume, BindOptions: {} }] } },
      'BindOptions must not be specified on mount type "volume"',
    ],
  ])('of %s refuses %j', (version, body, message) => {
    expect(() => as(version, body)).toThrow(message);
    expect(() => as(version === '1.51' ? '1.41' : '1.51', { ...body, HostConfig: null })).not.toThrow();
  });
});
