/** Registries behind TLS and proxies: whom the client trusts, what it shows, and by which way it goes. */

import dns from 'node:dns';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { parseReference } from '../../ts/reference.ts';
import { RegistryClient } from '../../ts/registry/client/client.ts';
import type { RegistrySettings } from '../../ts/registry/client/settings.ts';
import { TestAuthority } from '../helpers/certificates.ts';
import { buildImage, busyboxTar, pushImage } from '../helpers/image.ts';
import { TestProxy } from '../helpers/proxy.ts';
import { startRegistry, type TestRegistry } from '../helpers/registry.ts';
import { missing } from '../helpers/requires.ts';

const platform = { os: 'linux', architecture: process.arch === 'arm64' ? 'arm64' : 'amd64' };
const { signal } = new AbortController();

describe.skipIf(missing('registry', 'busybox', 'openssl'))('a registry', () => {
  let dir: string;
  let authority: TestAuthority;
  let stranger: TestAuthority;
  let secure: TestRegistry;
  let expired: TestRegistry;
  let mutual: TestRegistry;
  let plain: TestRegistry;
  let digest: string;
  const clients: RegistryClient[] = [];

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'caisson-tls-'));
    authority = new TestAuthority(join(dir, 'authority'));
    stranger = new TestAuthority(join(dir, 'stranger'));
    const own = authority.issue('registry.test');
    secure = await startRegistry({ tls: own });
    expired = await startRegistry({ tls: authority.issue('registry.test', { expired: true }) });
    mutual = await startRegistry({ tls: { ...own, clientCas: [authority.certificate] } });
    plain = await startRegistry();
    const image = buildImage([await busyboxTar()]);
    digest = image.manifestDigest;
    await pushImage(plain.url, 'test/one', 'latest', image);
    // The names of the test lead to this machine; no other resolver is asked.
    vi.spyOn(dns, 'lookup').mockImplementation(((name: string, options: dns.LookupOptions, done: unknown) => {
      const tell = done as (error: Error | null, address?: unknown, family?: number) => void;
      if (!/\.test$|^127\./.test(name)) tell(Object.assign(new Error(`lookup ${name}`), { code: 'ENOTFOUND' }));
      else if (options.all) tell(null, [{ address: '127.0.0.1', family: 4 }]);
      else tell(null, '127.0.0.1', 4);
    }) as never);
  });
  afterEach(async () => {
    for (const client of clients.splice(0)) await client.close();
  });
  afterAll(async () => {
    vi.restoreAllMocks();
    for (const registry of [secure, expired, mutual, plain]) await registry[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true, force: true });
  });

  const named = (registry: TestRegistry, name = 'registry.test'): string => registry.host.replace('127.0.0.1', name);

  /** A directory of certificates; `files` by host and name. */
  function certs(name: string, files: Record<string, Record<string, string>>): string {
    for (const [host, contents] of Object.entries(files)) {
      mkdirSync(join(dir, name, host), { recursive: true });
      for (const [file, source] of Object.entries(contents)) copyFileSync(source, join(dir, name, host, file));
    }
    return join(dir, name);
  }

  /** Resolves when the registry takes us: an answer to a name that it does not have is one. */
  async function reach(host: string, settings: Partial<RegistrySettings>): Promise<string> {
    const client = new RegistryClient({
      settings: () => ({ proxies: { httpProxy: '', httpsProxy: '' }, ...settings }),
      timing: { backoffMs: 1 },
    });
    clients.push(client);
    return client
      .repository(parseReference(`${host}/test/one`))
      .resolve({ platform, signal })
      .then(
        (found) => found.digest,
        (error: Error) => {
          if (/manifest unknown|not found: name unknown/.test(error.message)) return 'answered';
          throw error;
        },
      );
  }

  it('is trusted for the authority in its directory', async () => {
    const certsDir = certs('right', { [named(secure)]: { 'ca.crt': authority.certificate } });
    expect(await reach(named(secure), { certsDir })).toBe('answered');
  });

  it.each([
    ['of nobody', {}],
    ['of another authority', { 'ca.crt': () => stranger.certificate }],
  ])('with a certificate %s is refused, and told where to put the right one', async (what, files) => {
    const contents = Object.fromEntries(Object.entries(files).map(([name, path]) => [name, path()]));
    const certsDir = certs(`wrong ${what}`, { [named(secure)]: contents });
    await expect(reach(named(secure), { certsDir })).rejects.toMatchObject({
      kind: 'Unavailable',
      code: 'REGISTRY_CERTIFICATE',
      message: expect.stringContaining('tls: failed to verify certificate'),
      hint: expect.stringContaining(`certs.d/${named(secure)}/ca.crt`),
    });
  });

  it('is refused when the authority stands in the directory of another port', async () => {
    const certsDir = certs('other', { [named(plain)]: { 'ca.crt': authority.certificate } });
    await expect(reach(named(secure), { certsDir })).rejects.toMatchObject({ code: 'REGISTRY_CERTIFICATE' });
  });

  it.each([
    ['for another name', () => named(secure, 'wrong.test')],
    ['that has expired', () => named(expired)],
  ])('with a certificate %s is refused', async (what, host) => {
    const certsDir = certs(`bad ${what}`, { [host()]: { 'ca.crt': authority.certificate } });
    await expect(reach(host(), { certsDir })).rejects.toMatchObject({ code: 'REGISTRY_CERTIFICATE' });
  });

  it('may show any certificate when it is insecure', async () => {
    expect(await reach(named(secure), { insecureRegistries: [named(secure)], certsDir: join(dir, 'none') })).toBe(
      'answered',
    );
  });

  it('gets the certificate of its directory, and lets nobody in without one', async () => {
    const host = named(mutual);
    const client = authority.issue('client');
    const withKey = certs('mutual', {
      [host]: { 'ca.crt': authority.certificate, 'client.cert': client.certificate, 'client.key': client.key },
    });
    expect(await reach(host, { certsDir: withKey })).toBe('answered');
    const without = certs('anonymous', { [host]: { 'ca.crt': authority.certificate } });
    await expect(reach(host, { certsDir: without })).rejects.toMatchObject({ kind: 'Unavailable' });
    const half = certs('half', { [host]: { 'ca.crt': authority.certificate, 'client.cert': client.certificate } });
    await expect(reach(host, { certsDir: half })).rejects.toThrow(
      'missing key client.key for client certificate client.cert',
    );
  });

  describe('by a proxy', () => {
    let proxy: TestProxy;
    afterEach(() => proxy[Symbol.asyncDispose]());

    it('is reached with its TLS inside, and the password of the proxy outside', async () => {
      proxy = await new TestProxy().listen();
      const certsDir = certs('proxied', { [named(secure)]: { 'ca.crt': authority.certificate } });
      const httpsProxy = proxy.url.replace('//', '//user:pass@');
      expect(await reach(named(secure), { certsDir, proxies: { httpProxy: '', httpsProxy } })).toBe('answered');
      expect(new Set(proxy.asked)).toEqual(new Set([`CONNECT ${named(secure)}`]));
      expect(proxy.authorizations[0]).toBe(`Basic ${btoa('user:pass')}`);
    });

    it('is trusted no more than without', async () => {
      proxy = await new TestProxy().listen();
      const settings = { certsDir: join(dir, 'none'), proxies: { httpProxy: '', httpsProxy: proxy.url } };
      await expect(reach(named(secure), settings)).rejects.toMatchObject({ code: 'REGISTRY_CERTIFICATE' });
      expect(proxy.asked.length).toBeGreaterThan(0);
    });

    it('is pulled from over plain HTTP', async () => {
      proxy = await new TestProxy().listen();
      const settings = { insecureRegistries: [named(plain)], proxies: { httpProxy: proxy.url, httpsProxy: '' } };
      expect(await reach(named(plain), settings)).toBe(digest);
      expect(proxy.asked).toContain(`GET http://${named(plain)}/v2/test/one/manifests/latest`);
    });

    it.each(['.test', 'registry.test', '*', '10.0.0.0/8, test'])(
      'is reached without it when NO_PROXY is %s',
      async (noProxy) => {
        proxy = await new TestProxy().listen();
        const settings = {
          insecureRegistries: [named(plain)],
          proxies: { httpProxy: proxy.url, httpsProxy: proxy.url, noProxy },
        };
        expect(await reach(named(plain), settings)).toBe(digest);
        expect(proxy.asked).toEqual([]);
      },
    );
  });
});
