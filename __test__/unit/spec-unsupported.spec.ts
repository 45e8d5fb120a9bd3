import { describe, expect, it } from 'vitest';
import type { CreateBody } from '../../ts/engine/api/schemas/containers.ts';
import { refuseUnsupported } from '../../ts/engine/containers/unsupported.ts';

const refusal = (body: object): string => {
  try {
    refuseUnsupported(body as CreateBody);
  } catch (error) {
    return (error as Error).message;
  }
  return 'accepted';
};

/** What docker 28 sends for `docker run busybox true`, less the fields that carry a value. */
const PLAIN = {
  Hostname: '',
  AttachStdout: true,
  Cmd: ['true'],
  Image: 'busybox',
  Volumes: {},
  OnBuild: null,
  HostConfig: { Links: null, VolumesFrom: null, StorageOpt: {}, CpuCount: 0, DeviceRequests: null, UsernsMode: '' },
  NetworkingConfig: {
    EndpointsConfig: { default: { IPAMConfig: null, Aliases: null, MacAddress: '', IPPrefixLen: 0 } },
  },
};

describe('options that caisson does not have', () => {
  it('are not seen in what the docker client sends by itself', () => {
    expect(refusal(PLAIN)).toBe('accepted');
  });

  it.each([
    [{ HostConfig: { UsernsMode: 'private' } }, '--userns private'],
    [{ HostConfig: { CpuCount: 5 } }, '--cpu-count'],
    [{ HostConfig: { Newer: true } }, 'HostConfig.Newer'],
    [{ Newer: 'x' }, 'Config.Newer'],
  ])('%j is refused by name', (body, option) => {
    expect(refusal(body)).toContain(option);
    expect(refusal(body)).toContain('is not supported by caisson');
  });

  it('a healthcheck may be turned off, and a new field may say nothing', () => {
    expect(refusal({ Healthcheck: { Test: ['NONE'] }, HostConfig: { Newer: 0, Other: [], Third: {} } })).toBe(
      'accepted',
    );
  });
});
