/** Which engine the library and the CLI speak to, as docker's client decides it. */
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { DEFAULT_SOCKET, defaultAddress } from '../../ts/client/address.ts';

const dir = mkdtempSync(join(tmpdir(), 'caisson-contexts-'));
const id = (name: string): string => createHash('sha256').update(name).digest('hex');

/** As `docker context create` writes it. */
function makeContext(name: string, host: string): void {
  const meta = join(dir, 'contexts/meta', id(name));
  mkdirSync(meta, { recursive: true });
  const endpoints = { docker: { Host: host, SkipTLSVerify: false } };
  writeFileSync(join(meta, 'meta.json'), JSON.stringify({ Name: name, Metadata: {}, Endpoints: endpoints }));
}

beforeAll(() => {
  makeContext('mine', 'unix:///run/mine.sock');
  makeContext('far', 'ssh://host');
  makeContext('secure', 'tcp://host:2376');
  mkdirSync(join(dir, 'contexts/tls', id('secure'), 'docker'), { recursive: true });
  mkdirSync(join(dir, 'contexts/meta', id('broken')));
  writeFileSync(join(dir, 'contexts/meta', id('broken'), 'meta.json'), '{');
});
afterAll(() => rmSync(dir, { recursive: true }));

it.each([
  [{}, `unix://${DEFAULT_SOCKET}`],
  [{ DOCKER_CONTEXT: 'default' }, `unix://${DEFAULT_SOCKET}`],
  [{ DOCKER_CONTEXT: 'mine' }, 'unix:///run/mine.sock'],
  [{ DOCKER_CONTEXT: 'mine', DOCKER_HOST: 'tcp://127.0.0.1:1' }, 'tcp://127.0.0.1:1'],
  [{ DOCKER_CONTEXT: 'none', CAISSON_HOST: '/a.sock', DOCKER_HOST: '/b.sock' }, '/a.sock'],
])('%j means %s', (env, address) => {
  expect(defaultAddress({ ...env, DOCKER_CONFIG: dir })).toBe(address);
});

it('docker context use chooses, unless the environment says otherwise', () => {
  writeFileSync(join(dir, 'config.json'), JSON.stringify({ auths: {}, currentContext: 'mine' }));
  const env = { DOCKER_CONFIG: dir };
  expect(defaultAddress(env)).toBe('unix:///run/mine.sock');
  expect(defaultAddress({ ...env, DOCKER_CONTEXT: 'default' })).toBe(`unix://${DEFAULT_SOCKET}`);
  expect(defaultAddress({ ...env, DOCKER_HOST: 'tcp://127.0.0.1:1' })).toBe('tcp://127.0.0.1:1');
  for (const content of ['{', '[]', '{"currentContext":""}', 'null']) {
    writeFileSync(join(dir, 'config.json'), content);
    expect(defaultAddress(env), content).toBe(`unix://${DEFAULT_SOCKET}`);
  }
});

it.each([
  ['none', 'NotFound', 'context "none": context not found: '],
  ['far', 'InvalidParameter', 'context "far" cannot be used: "ssh://host" is neither unix:// nor tcp://'],
  ['secure', 'InvalidParameter', 'context "secure" cannot be used: certificates of a context are not read'],
  ['broken', 'InvalidParameter', 'context "broken" cannot be used: '],
])('the context %s is refused', (name, kind, message) => {
  expect(() => defaultAddress({ DOCKER_CONTEXT: name, DOCKER_CONFIG: dir })).toThrow(
    expect.objectContaining({ kind, message: expect.stringContaining(message) }),
  );
});
