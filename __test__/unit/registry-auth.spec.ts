/** To whom credentials go, and to whom never. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseReference } from '../../ts/reference.ts';
import { judgeRealm, parseChallenges } from '../../ts/registry/client/challenge.ts';
import { RegistryClient } from '../../ts/registry/client/client.ts';
import { TestAuthority } from '../helpers/certificates.ts';
import { OCI_MANIFEST, problem, ScriptedRegistry } from '../helpers/scriptedRegistry.ts';

const platform = { os: 'linux', architecture: 'amd64' };
const USER = { username: 'ann', password: 'secret' };
const BASIC = `Basic ${Buffer.from('ann:secret').toString('base64')}`;
const { signal } = new AbortController();
const certificates = mkdtempSync(join(tmpdir(), 'caisson-auth-'));
const tls = new TestAuthority(certificates).issue('localhost');
let registry: ScriptedRegistry;
let client: RegistryClient;

afterAll(() => rmSync(certificates, { recursive: true }));

beforeEach(async () => {
  registry = await new ScriptedRegistry().listen();
  client = new RegistryClient({ timing: { backoffMs: 1 } });
});
afterEach(async () => {
  await client.close();
  await registry[Symbol.asyncDispose]();
});

const resolve = (credentials = {}) =>
  client.repository(parseReference(`${registry.host}/app`), credentials).resolve({ platform, signal });

/** The registry asks for a token of `realm`; its own token server is at /token and wants the password, if any is given. */
function askForToken(realm: string, password: string | undefined): void {
  registry.fault = (request, response) => {
    const { url = '', headers } = request;
    if (url.startsWith('/token')) {
      if (password !== undefined && headers.authorization !== password)
        problem(response, 401, 'UNAUTHORIZED', 'incorrect username or password');
      else response.end(JSON.stringify({ token: 'T1', expires_in: 300 }));
      return true;
    }
    if (headers.authorization === 'Bearer T1') return false;
    const challenge = `Bearer realm="${realm}",service="reg",scope="repository:app:pull"`;
    problem(response, 401, 'UNAUTHORIZED', 'authentication required', { 'www-authenticate': challenge });
    return true;
  };
}

describe('tokens', () => {
  it('are asked for with the password, once for all that is pulled', async () => {
    registry.addImage([Buffer.from('layer')]);
    askForToken(`http://${registry.host}/token`, BASIC);
    await resolve(USER);
    await resolve(USER);
    expect(registry.asked(/^\/token/).map(({ path }) => path)).toEqual([
      '/token?service=reg&scope=repository%3Aapp%3Apull&account=ann',
    ]);
  });

  it('are asked for without a password when there is none', async () => {
    registry.addImage([]);
    askForToken(`http://${registry.host}/token`, undefined);
    await resolve();
    expect(registry.asked(/^\/token/)[0]?.headers.authorization).toBeUndefined();
  });

  it('are refused with the reason', async () => {
    askForToken(`http://${registry.host}/token`, BASIC);
    await expect(resolve({ username: 'ann', password: 'wrong' })).rejects.toMatchObject({
      kind: 'Unauthorized',
      message: 'unauthorized: incorrect username or password',
    });
  });

  it.each([
    [401, '{"errors":[{"Code":"UNAUTHORIZED","message":"not you"}]}', /^unauthorized: not you$/],
    [401, '{"error":"unauthorized"}', /^unauthorized: authentication required$/],
    [403, 'no way', /error parsing HTTP 403 response body: "no way"$/],
    [429, '{"errors":[{"code":"TOOMANYREQUESTS","message":"out of tokens"}]}', /^toomanyrequests: out of tokens$/],
    [200, '{"something":"wrong"}', /authorization server did not include a token in the response$/],
  ])('are missing in the words that clients know: %i %s', async (status, body, message) => {
    askForToken(`http://${registry.host}/token`, undefined);
    const { fault } = registry;
    registry.fault = (request, response, attempt) => {
      if (!request.url?.startsWith('/token')) return fault(request, response, attempt);
      response.writeHead(status).end(body);
      return true;
    };
    await expect(resolve(USER)).rejects.toThrow(message);
  });

  it('nor a password there is: a registry that wants one says so', async () => {
    registry.fault = (_request, response) => {
      problem(response, 401, 'UNAUTHORIZED', 'authentication required', { 'www-authenticate': 'Basic realm="r"' });
      return true;
    };
    await expect(resolve()).rejects.toThrow(/: no basic auth credentials$/);
    await expect(client.checkAuth(registry.host, USER, signal)).rejects.toThrow(
      `login attempt to http://${registry.host}/v2/ failed with status: 401 Unauthorized`,
    );
  });

  it.each(['http://169.254.169.254/token', 'http://10.0.0.1/token', 'https://localhost/token', 'ftp://x/', 'nonsense'])(
    'are not asked for at %s',
    async (realm) => {
      askForToken(realm, undefined);
      await expect(resolve(USER)).rejects.toMatchObject({ code: 'REGISTRY_REALM' });
    },
  );
});

it.each([
  ['https://auth.docker.io/token', 'https://registry-1.docker.io', 'trusted'],
  ['https://gitlab.com/jwt/auth', 'https://registry.gitlab.com', 'trusted'],
  ['https://ghcr.io/token', 'https://ghcr.io', 'trusted'],
  ['https://reg.example:8443/t', 'https://reg.example', 'trusted'],
  ['http://127.0.0.1:5001/t', 'http://127.0.0.1:5000', 'trusted'],
  ['https://auth.evil.com/token', 'https://registry-1.docker.io', 'anonymous'],
  ['https://evil.co.uk/token', 'https://registry.shop.co.uk', 'anonymous'],
  ['https://evil.herokuapp.com/t', 'https://good.herokuapp.com', 'anonymous'],
  ['http://auth.docker.io/token', 'https://registry-1.docker.io', 'refused'],
  ['https://127.0.0.1/token', 'https://registry-1.docker.io', 'refused'],
  ['https://[::1]/token', 'https://registry-1.docker.io', 'refused'],
  ['https://2130706433/token', 'https://registry-1.docker.io', 'refused'],
  ['https://metadata/token', 'https://registry-1.docker.io', 'refused'],
  ['http://10.0.0.2/t', 'http://10.0.0.1:5000', 'refused'],
])('%s for %s is %s', (realm, own, judged) => {
  expect(judgeRealm(new URL(realm), new URL(own))).toBe(judged);
});

describe('basic authentication', () => {
  const guard = (password: string): void => {
    registry.fault = (request, response) => {
      if (request.headers.authorization === password) return false;
      problem(response, 401, 'UNAUTHORIZED', 'authentication required', { 'www-authenticate': 'Basic realm="r"' });
      return true;
    };
  };

  it('is used when the registry asks for it, not before', async () => {
    registry.addImage([]);
    guard(BASIC);
    await resolve(USER);
    expect(registry.asked(/manifests/).map(({ headers }) => headers.authorization)).toEqual([undefined, BASIC]);
  });

  it('checks a login', async () => {
    guard(BASIC);
    registry.manifests.set('x', { type: '', body: Buffer.alloc(0) });
    const inner = registry.fault;
    registry.fault = (request, response, attempt) => {
      if (inner(request, response, attempt)) return true;
      response.end('{}');
      return true;
    };
    await client.checkAuth(registry.host, USER, signal);
    await expect(client.checkAuth(registry.host, { ...USER, password: 'no' }, signal)).rejects.toMatchObject({
      kind: 'Unauthorized',
    });
  });
});

it('a token without the right to pull is no access', async () => {
  registry.fault = (request, response) => {
    if (request.url?.startsWith('/token')) response.end('{"token":"T"}');
    else {
      const challenge = `Bearer realm="http://${registry.host}/token",service="reg",error="insufficient_scope"`;
      problem(response, 401, 'UNAUTHORIZED', 'authentication required', { 'www-authenticate': challenge });
    }
    return true;
  };
  await expect(resolve()).rejects.toMatchObject({
    kind: 'NotFound',
    message: `pull access denied for ${registry.host}/app, repository does not exist or may require 'docker login': denied: requested access to the resource is denied`,
  });
});

describe('redirects', () => {
  it('to another origin carry no credentials, even when that asks for them', async () => {
    await using other = await new ScriptedRegistry().listen();
    const [layer] = registry.addImage([Buffer.from('layer')]).layers;
    if (layer === undefined) throw new Error('no layer');
    registry.fault = (request, response) => {
      if (request.headers.authorization !== BASIC) {
        problem(response, 401, 'UNAUTHORIZED', '', { 'www-authenticate': 'Basic realm="r"' });
        return true;
      }
      if (!request.url?.includes('/blobs/')) return false;
      response.writeHead(307, { location: `http://${other.host}/storage/blobs/${layer.digest}` }).end();
      return true;
    };
    other.fault = (_request, response) => {
      problem(response, 401, 'UNAUTHORIZED', '', { 'www-authenticate': 'Basic realm="r"' });
      return true;
    };
    const source = client.repository(parseReference(`${registry.host}/app`), USER);
    await source.resolve({ platform, signal });
    await expect(source.fetchBlob(layer, { signal }).next()).rejects.toMatchObject({ kind: 'Unauthorized' });
    // Once: its 401 is an answer, not a question that the registry's credentials would be an answer to.
    expect(other.seen).toHaveLength(1);
    for (const { headers } of other.seen) expect(headers).not.toHaveProperty('authorization');
    other.fault = () => false;
    other.blobs.set(layer.digest, Buffer.from('layer'));
    for await (const chunk of source.fetchBlob(layer, { signal })) expect(Buffer.from(chunk).toString()).toBe('layer');
    for (const { headers } of other.seen) expect(headers).not.toHaveProperty('authorization');
  });

  describe.each([301, 302, 303, 307, 308])('of status %i', (status) => {
    // what is asked for, where the registry and the target speak TLS, what becomes of it, who is asked with the password
    it.each([
      ['a manifest', 'on the same host', false, false, 'comes', [BASIC]],
      ['a manifest', 'to another port', false, false, 'comes', [undefined]],
      ['a manifest', 'to another port', true, true, 'comes', [undefined]],
      ['a manifest', 'from https to http', true, false, 'redirects from https to http', []],
      ['a blob', 'from https to http', true, false, 'comes', [undefined]],
    ] as const)('%s %s: TLS %j to %j: %s', async (what, where, ownTls, otherTls, outcome, expected) => {
      await using own = await new ScriptedRegistry(ownTls ? tls : undefined).listen();
      await using other = await new ScriptedRegistry(otherTls ? tls : undefined).listen();
      const target = where === 'on the same host' ? own : other;
      const [layer] = own.addImage([Buffer.from('layer')]).layers;
      if (layer === undefined) throw new Error('no layer');
      for (const [name, manifest] of own.manifests) other.manifests.set(name, manifest);
      other.blobs.set(layer.digest, Buffer.from('layer'));
      const kind = what === 'a blob' ? 'blobs' : 'manifests';
      own.fault = (request, response) => {
        if (request.url?.startsWith('/elsewhere/')) return false;
        if (request.headers.authorization !== BASIC) {
          problem(response, 401, 'UNAUTHORIZED', '', { 'www-authenticate': 'Basic realm="r"' });
          return true;
        }
        if (!request.url?.includes(`/${kind}/`)) return false;
        const scheme = (target === own ? ownTls : otherTls) ? 'https' : 'http';
        const name = request.url.split('/').at(-1);
        response.writeHead(status, { location: `${scheme}://${target.host}/elsewhere/${kind}/${name}` }).end();
        return true;
      };
      const source = client.repository(parseReference(`${own.host}/app`), USER);
      const got = (async () => {
        const { manifest } = await source.resolve({ platform, signal });
        for (const one of manifest.layers) for await (const _ of source.fetchBlob(one, { signal }));
      })();
      if (outcome === 'comes') await got;
      else await expect(got).rejects.toThrow(outcome);
      expect(target.asked(/^\/elsewhere/).map(({ headers }) => headers.authorization)).toEqual(expected);
      for (const { headers } of other.seen) expect(headers).not.toHaveProperty('cookie');
    });
  });

  it('of a layer itself, its `urls`, are not followed (row 40)', async () => {
    await using evil = await new ScriptedRegistry().listen();
    const { layers } = registry.addImage([Buffer.from('layer')]);
    const manifest = JSON.parse(registry.manifests.get('latest')?.body.toString() ?? '') as object;
    const named = layers.map((layer) => ({ ...layer, urls: [`http://${evil.host}/layer`] }));
    registry.addManifest({ ...manifest, layers: named }, OCI_MANIFEST, 'latest');
    const source = client.repository(parseReference(`${registry.host}/app`), USER);
    const { manifest: resolved } = await source.resolve({ platform, signal });
    for (const layer of resolved.layers) for await (const _ of source.fetchBlob(layer, { signal }));
    expect(registry.asked(/blobs/)).toHaveLength(1);
    expect(evil.seen).toEqual([]);
  });

  it('end after ten', async () => {
    registry.fault = (request, response) => {
      response.writeHead(302, { location: `${request.url}x` }).end();
      return true;
    };
    await expect(resolve()).rejects.toThrow('redirects more than 10 times');
    expect(registry.asked(/manifests/)).toHaveLength(11);
  });
});

it('challenges are read with quotes, commas and several schemes', () => {
  expect(
    parseChallenges('Basic realm="a, b", Bearer realm="https://x/t",scope="repository:a/b:pull,push",service=s'),
  ).toEqual([
    { scheme: 'basic', parameters: { realm: 'a, b' } },
    { scheme: 'bearer', parameters: { realm: 'https://x/t', scope: 'repository:a/b:pull,push', service: 's' } },
  ]);
  expect(parseChallenges('')).toEqual([]);
});
