/** Who may do what with the registry: htpasswd, bearer tokens, rights. */
import { generateKeyPairSync, sign as signBytes } from 'node:crypto';
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hashSync } from '@node-rs/bcrypt';
import { exportJWK, generateKeyPair, importJWK, type JWK, SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { grantedAccess } from '../../ts/registry/server/auth/authenticate.ts';
import { Htpasswd } from '../../ts/registry/server/auth/htpasswd.ts';
import { deleteUser, setUser } from '../../ts/registry/server/auth/htpasswdFile.ts';
import type { Right } from '../../ts/registry/server/auth/rights.ts';
import { matches, principalOf } from '../../ts/registry/server/auth/rights.ts';
import {
  codesOf,
  digestOf,
  pushBlob,
  pushManifest,
  type ServedRegistry,
  serveRegistry,
} from '../helpers/servedRegistry.ts';

const RIGHTS: Right[] = [
  { users: ['alice'], repositories: ['team/**'], actions: ['pull', 'push', 'delete'] },
  { users: ['bob'], repositories: ['team/*'], actions: ['pull'] },
  { users: ['anonymous', '*'], repositories: ['public/**'], actions: ['pull'] },
];
const basic = (user: string, password: string): Record<string, string> => ({
  authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`,
});
const ALICE = basic('alice', 'secret');
const BOB = basic('bob', 'hunter2');

let dir: string;
let users: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'caisson-login-'));
  users = join(dir, 'users');
  writeFileSync(
    users,
    `# comment\nalice:${hashSync('secret', 4)}\n\nbob:${hashSync('hunter2', 4).replace('$2b$', '$2y$')}\n`,
  );
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

describe('rights', () => {
  it.each([
    ['a/*', 'a/b', true],
    ['a/*', 'a/b/c', false],
    ['a/**', 'a/b/c', true],
    ['**', 'x', true],
    ['a.b', 'axb', false],
    ['ci-*/app', 'ci-7/app', true],
  ])('pattern %s and %s: %s', (pattern, name, expected) => expect(matches(pattern, name)).toBe(expected));

  it('of a scope only what the principal has is granted', () => {
    const bob = principalOf('bob', RIGHTS);
    expect(
      grantedAccess(bob, [
        'repository:team/a:pull,push',
        'repository:secret/a:pull',
        'nonsense',
        'repository:team/b:*',
      ]),
    ).toEqual([
      { type: 'repository', name: 'team/a', actions: ['pull'] },
      { type: 'repository', name: 'team/b', actions: ['pull'] },
    ]);
    expect(grantedAccess(principalOf('alice', RIGHTS), ['repository:team/host:5000/x:pull'])).toEqual([
      { type: 'repository', name: 'team/host:5000/x', actions: ['pull'] },
    ]);
  });
});

describe('htpasswd', () => {
  let served: ServedRegistry;
  beforeAll(async () => {
    served = await serveRegistry({ htpasswd: users, rights: RIGHTS, allowDelete: true });
  });
  afterAll(() => served[Symbol.asyncDispose]());
  const ask = (path: string, headers: Record<string, string> = {}, method = 'GET'): Promise<Response> =>
    fetch(`${served.url}/v2/${path}`, { method, headers });

  it('who has not logged in is asked to', async () => {
    const answer = await ask('');
    expect([answer.status, answer.headers.get('www-authenticate')]).toEqual([401, `Basic realm="${served.url}"`]);
    expect(await codesOf(answer)).toEqual(['UNAUTHORIZED']);
    expect((await ask('team/app/tags/list')).status).toBe(401);
    expect((await ask('', ALICE)).status).toBe(200);
  });

  it.each([
    ['a wrong password', basic('alice', 'wrong')],
    ['an unknown user', basic('mallory', 'secret')],
    ['no password', basic('alice', '')],
    ['the hash as the password', basic('alice', '$2b$04$')],
    ['another scheme', { authorization: 'Bearer abc' }],
    ['rubbish', { authorization: 'Basic' }],
  ])('%s is 401, also where the anonymous may', async (_what, headers) => {
    for (const path of ['', 'public/app/tags/list']) expect((await ask(path, headers)).status).toBe(401);
  });

  it('each may what is his: pull, push, delete, mount, list', async () => {
    await pushBlob(served.url, 'team/app', '{}', ALICE);
    const begin = (name: string, headers: Record<string, string>, query = ''): Promise<Response> =>
      ask(`${name}/blobs/uploads/${query}`, headers, 'POST');
    expect((await begin('team/app', BOB)).status).toBe(403);
    expect((await begin('other/app', ALICE)).status).toBe(403);
    expect((await begin('public/app', {})).status).toBe(401);
    const digest = digestOf('{}');
    expect((await ask(`team/app/blobs/${digest}`, BOB)).status).toBe(200);
    expect(await codesOf(await ask(`team/app/blobs/${digest}`, BOB, 'DELETE'))).toEqual(['DENIED']);
    expect((await ask(`team/deep/app/blobs/${digest}`, BOB)).status).toBe(403);
    const { manifests, repositories } = served.running.registry;
    expect(manifests.tags('team/app', '', 1)).toEqual([]);
    expect(repositories.id('other/app')).toBeUndefined();
  });

  it('a blob is mounted only from where the client may pull', async () => {
    await using open = await serveRegistry({
      htpasswd: users,
      rights: [
        { users: ['alice'], repositories: ['**'], actions: ['pull', 'push'] },
        { users: ['bob'], repositories: ['bob/**'], actions: ['pull', 'push'] },
      ],
    });
    const digest = await pushBlob(open.url, 'secret/app', 'secret bytes', ALICE);
    for (const query of [`?mount=${digest}&from=secret/app`, `?mount=${digest}`]) {
      const answer = await fetch(`${open.url}/v2/bob/app/blobs/uploads/${query}`, { method: 'POST', headers: BOB });
      expect(answer.status).toBe(202);
    }
    expect((await fetch(`${open.url}/v2/bob/app/blobs/${digest}`, { headers: BOB })).status).toBe(404);
  });

  it('a file that has changed is read again; one that cannot be used is refused by name', async () => {
    expect((await ask('', basic('carol', 'new'))).status).toBe(401);
    appendFileSync(users, `carol:${hashSync('new', 4)}\n`);
    expect((await ask('', basic('carol', 'new'))).status).toBe(200);
    const md5 = join(dir, 'md5');
    writeFileSync(md5, 'dave:$apr1$abc$def\n');
    await expect(serveRegistry({ htpasswd: md5 })).rejects.toThrow(/md5, line 1: no user with a bcrypt hash/);
    await expect(serveRegistry({ htpasswd: join(dir, 'absent') })).rejects.toThrow(/absent/);
  });

  it('is changed by `caisson registry htpasswd`, and other lines stay', async () => {
    const file = join(dir, 'changed');
    expect(await setUser(file, 'bob', 'first')).toBe(false);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    writeFileSync(file, `# ours\n${readFileSync(file, 'utf8')}`);
    expect(await setUser(file, 'ann', 'other')).toBe(false);
    expect(await setUser(file, 'bob', 'second')).toBe(true);
    const htpasswd = new Htpasswd(file);
    expect(await Promise.all(['first', 'second'].map((password) => htpasswd.check('bob', password)))).toEqual([
      false,
      true,
    ]);
    expect(await htpasswd.check('ann', 'other')).toBe(true);
    deleteUser(file, 'bob');
    expect(readFileSync(file, 'utf8')).toMatch(/^# ours\nann:\$2y\$10\$[^\n]+\n$/);
    expect(() => deleteUser(file, 'bob')).toThrow(/has no user "bob"/);
    for (const [user, password] of [
      ['', 'x'],
      ['a:b', 'x'],
      ['#a', 'x'],
      ['a', ''],
      ['a', 'x'.repeat(73)],
    ] as const)
      await expect(setUser(file, user, password)).rejects.toMatchObject({ kind: 'InvalidParameter' });
    expect(readdirSync(dir).filter((name) => name.startsWith('changed'))).toEqual(['changed']);
  });
});

describe('bearer tokens', () => {
  const TOKENS = { keys: '', issuer: 'caisson', service: 'caisson-registry', realm: '', ttlS: 60 };
  let served: ServedRegistry;
  let other: { privateKey: CryptoKey; jwk: JWK };
  beforeAll(async () => {
    served = await serveRegistry({ htpasswd: users, rights: RIGHTS, tokens: TOKENS, allowDelete: true });
    const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true });
    other = { privateKey, jwk: { ...(await exportJWK(publicKey)), alg: 'ES256' } };
  });
  afterAll(() => served[Symbol.asyncDispose]());

  const ask = (path: string, token?: string, method = 'GET'): Promise<Response> =>
    fetch(`${served.url}/v2/${path}`, {
      method,
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
    });
  async function tokenFor(scope: string, headers: Record<string, string> = {}): Promise<string> {
    const query = new URLSearchParams({ service: 'caisson-registry', scope });
    const answer = await fetch(`${served.url}/token?${query}`, { headers });
    expect(answer.status).toBe(200);
    return ((await answer.json()) as { token: string }).token;
  }

  it('the challenge names the token server and the scope; its token opens exactly that', async () => {
    const refused = await ask('team/app/tags/list');
    expect(refused.status).toBe(401);
    expect(refused.headers.get('www-authenticate')).toBe(
      `Bearer realm="${served.url}/token",service="caisson-registry",scope="repository:team/app:pull"`,
    );
    const token = await tokenFor('repository:team/app:pull,push', ALICE);
    await pushBlob(served.url, 'team/app', 'x', { authorization: `Bearer ${token}` });
    expect((await ask(`team/app/blobs/${digestOf('x')}`, token)).status).toBe(200);
    const elsewhere = await ask('team/other/tags/list', token);
    expect([elsewhere.status, elsewhere.headers.get('www-authenticate')]).toEqual([
      401,
      expect.stringContaining('error="insufficient_scope"'),
    ]);
    expect((await ask(`team/app/blobs/${digestOf('x')}`, token, 'DELETE')).status).toBe(401);
    expect((await ask('', token)).status).toBe(200);
  });

  it('by password in a form, for nobody, and not for a wrong password or another service', async () => {
    const post = (form: Record<string, string>): Promise<Response> =>
      fetch(`${served.url}/token`, { method: 'POST', body: new URLSearchParams(form) });
    expect(
      (await post({ grant_type: 'password', username: 'alice', password: 'secret', scope: 'repository:team/a:pull' }))
        .status,
    ).toBe(200);
    expect((await post({ grant_type: 'password', username: 'alice', password: 'wrong' })).status).toBe(401);
    expect((await post({ grant_type: 'refresh_token' })).status).toBe(400);
    expect((await fetch(`${served.url}/token?service=other`)).status).toBe(403);
    expect((await fetch(`${served.url}/token`, { headers: basic('alice', 'wrong') })).status).toBe(401);
    const anonymous = await tokenFor('repository:public/app:pull,push repository:team/app:pull');
    expect((await ask('public/app/tags/list', anonymous)).status).toBe(404);
    expect((await ask('team/app/tags/list', anonymous)).status).toBe(401);
  });

  it('the catalog needs its own scope and shows what the user may pull', async () => {
    const push = await tokenFor('repository:team/shown:pull,push', ALICE);
    for (const blob of ['{}']) await pushBlob(served.url, 'team/shown', blob, { authorization: `Bearer ${push}` });
    expect((await ask('_catalog', push)).status).toBe(401);
    const token = await tokenFor('registry:catalog:*', BOB);
    expect((await ask('_catalog', token)).status).toBe(200);
  });

  describe('row 62: does not hold', () => {
    const nowS = Math.floor(Date.now() / 1000);
    const access = [{ type: 'repository', name: 'team/app', actions: ['pull'] }];
    const claims = { access, iss: 'caisson', aud: 'caisson-registry', sub: 'alice', exp: nowS + 60 };
    const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');

    /** Signed by the registry's own key, as far as the caller does not change it. */
    async function signed(payload: object, header: object = {}, key?: CryptoKey): Promise<string> {
      const { keys } = JSON.parse(
        (await import('node:fs')).readFileSync(join(served.root, 'token-keys.json'), 'utf8'),
      ) as { keys: JWK[] };
      const own = keys[0] as JWK;
      return new SignJWT({ ...payload })
        .setProtectedHeader({ alg: 'ES256', kid: own.kid ?? '', ...header })
        .sign(key ?? (await importJWK(own)));
    }

    it('but the same token unchanged does', async () => {
      expect((await ask('team/app/tags/list', await signed(claims))).status).toBe(200);
    });

    it.each<[string, () => Promise<string>]>([
      ["an attacker's key in the header", () => signed(claims, { jwk: other.jwk }, other.privateKey)],
      ["an attacker's key without kid", () => signed(claims, { jwk: other.jwk, kid: undefined }, other.privateKey)],
      ["an attacker's key set by address", () => signed(claims, { jku: 'http://127.0.0.1:1/keys' }, other.privateKey)],
      ['alg none', async () => `${encode({ alg: 'none' })}.${encode(claims)}.`],
      [
        'alg HS256 keyed with what is public',
        async () => {
          const key = new TextEncoder().encode(JSON.stringify(other.jwk));
          return new SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).sign(key);
        },
      ],
      ['a wrong audience', () => signed({ ...claims, aud: 'elsewhere' })],
      ['no audience', () => signed({ ...claims, aud: undefined })],
      ['a wrong issuer', () => signed({ ...claims, iss: 'elsewhere' })],
      ['expired by a second', () => signed({ ...claims, exp: nowS - 1 })],
      ['no end', () => signed({ ...claims, exp: undefined })],
      ['not yet', () => signed({ ...claims, nbf: nowS + 3600 })],
      [
        'another signature',
        async () => {
          const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
          const head = (await signed(claims)).split('.').slice(0, 2).join('.');
          return `${head}.${signBytes('sha256', Buffer.from(head), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`;
        },
      ],
      [
        'other claims under a good signature',
        async () => {
          const [head, , signature] = (await signed(claims)).split('.');
          return `${head}.${encode({ ...claims, sub: 'bob' })}.${signature}`;
        },
      ],
      [
        'an unknown critical header',
        () =>
          signed(claims, { crit: ['x'], x: 1 }).catch(
            async () => `${encode({ alg: 'ES256', crit: ['x'], x: 1 })}.${encode(claims)}.AA`,
          ),
      ],
      ['rubbish', async () => 'a.b.c'],
    ])('%s', async (_what, make) => {
      const answer = await ask('team/app/tags/list', await make());
      expect(answer.status).toBe(401);
      expect(answer.headers.get('www-authenticate')).toContain('error="invalid_token"');
    });
  });

  it('the key is made once, for its owner only, and stays over a restart', async () => {
    expect(statSync(join(served.root, 'token-keys.json')).mode & 0o777).toBe(0o600);
    const token = await tokenFor('repository:team/app:pull', ALICE);
    await served.restart();
    expect((await ask('team/app/tags/list', token)).status).toBe(200);
  });

  it('of a token server elsewhere only its keys count, and this one gives none', async () => {
    const keys = join(dir, 'keys.json');
    writeFileSync(keys, JSON.stringify({ keys: [other.jwk] }));
    const realm = 'https://auth.example/token';
    await using external = await serveRegistry({ tokens: { ...TOKENS, keys, realm } });
    const answer = await fetch(`${external.url}/v2/`);
    expect(answer.headers.get('www-authenticate')).toBe(`Bearer realm="${realm}",service="caisson-registry"`);
    expect((await fetch(`${external.url}/token`)).status).toBe(404);
    const token = await new SignJWT({ access: [{ type: 'repository', name: 'a', actions: ['pull', 'push'] }] })
      .setProtectedHeader({ alg: 'ES256' })
      .setIssuer('caisson')
      .setAudience('caisson-registry')
      .setExpirationTime('1m')
      .sign(other.privateKey);
    await expect(pushBlob(external.url, 'a', 'x', { authorization: `Bearer ${token}` })).resolves.toBe(digestOf('x'));
    const symmetric = join(dir, 'oct.json');
    writeFileSync(symmetric, JSON.stringify({ keys: [{ kty: 'oct', alg: 'HS256', k: 'AAAA' }] }));
    await expect(serveRegistry({ tokens: { ...TOKENS, keys: symmetric, realm } })).rejects.toThrow(
      /cannot verify tokens/,
    );
  });
});

it('without any user everybody may everything', async () => {
  await using open = await serveRegistry();
  expect((await fetch(`${open.url}/v2/`, { headers: ALICE })).status).toBe(200);
  await pushManifest(open.url, 'any/thing', 'v', { config: '{}', layers: [] });
});
