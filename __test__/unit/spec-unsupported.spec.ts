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

describe('options that caisson does not have', () => {
  it.each([
    [{ HostConfig: { UsernsMode: 'private' } }, '--userns private'],
    [{ HostConfig: { Cgroup: 'container:x' } }, 'HostConfig.Cgroup'],
  ])('%j is refused by name', (body, option) => {
    expect(refusal(body)).toContain(option);
    expect(refusal(body)).toContain('is not supported by caisson');
  });

  it('are not those that Docker does not know either, nor what says nothing', () => {
    expect(refusal({ name: 'x', HostConfig: { Newer: 5, UsernsMode: '', Cgroup: '' } })).toBe('accepted');
  });
});
