import { describe, expect, it } from 'vitest';
import { bodyCheck } from '../../ts/engine/api/schema.ts';
import { createBody, execBody } from '../../ts/engine/api/schemas/containers.ts';

describe('names in a body', () => {
  it('may be in any case, as Go takes them', () => {
    expect(bodyCheck(execBody)({ detachKeys: 'ctrl-p', CMD: ['a'] })).toEqual({ DetachKeys: 'ctrl-p', Cmd: ['a'] });
    const body = { hostconfig: { portbindings: { '80/tcp': [{ hostport: '1' }] } }, Labels: { hostconfig: 'x' } };
    expect(bodyCheck(createBody)(body)).toEqual({
      HostConfig: { PortBindings: { '80/tcp': [{ HostPort: '1' }] } },
      Labels: { hostconfig: 'x' },
    });
  });

  it('that the schema does not know stay, and a wrong type is still told', () => {
    expect(bodyCheck(execBody)({ Newer: { a: 1 } })).toEqual({ Newer: { a: 1 } });
    expect(() => bodyCheck(execBody)({ cmd: 5 })).toThrow('field Cmd');
  });
});
