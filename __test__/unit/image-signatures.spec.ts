/** The signature policy at pull, over our own registry; signatures are made here as cosign makes them. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SignatureGate } from '../../ts/engine/images/signatures/check.ts';
import { SignaturePolicy } from '../../ts/engine/images/signatures/policy.ts';
import { MEDIA_TYPES } from '../../ts/oci.ts';
import { parseReference } from '../../ts/reference.ts';
import { RegistryClient } from '../../ts/registry/client/client.ts';
import { TestAuthority } from '../helpers/certificates.ts';
import {
  digestOf,
  manifestOf,
  pushManifest,
  putManifest,
  type ServedRegistry,
  serveRegistry,
} from '../helpers/servedRegistry.ts';
import {
  bundleLayer,
  certifiedSigner,
  cosignLayer,
  type Layer,
  newSigner,
  referSignature,
  type Signer,
  tagSignatures,
} from '../helpers/signing.ts';

const ann = newSigner();
const bob = newSigner();
const log = newSigner();
const base64 = (text: string): string => Buffer.from(text).toString('base64');
const byKey = (more: object = {}): object => ({ type: 'sigstoreSigned', keyData: base64(ann.publicKey), ...more });
const ISSUER = 'https://accounts.example.com';
const EMAIL = 'ann@example.com';

let dir: string;
let served: ServedRegistry;
let host: string;
let authority: TestAuthority;
let count = 0;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'caisson-signed-'));
  served = await serveRegistry();
  host = new URL(served.url).host;
  authority = new TestAuthority(join(dir, 'ca'));
});
afterAll(async () => {
  await served[Symbol.asyncDispose]();
  rmSync(dir, { recursive: true, force: true });
});

const fulcio = (subject: string): Signer => {
  const issuer = Buffer.from(ISSUER).toString('hex');
  const extensions = [
    `subjectAltName=email:${subject}`,
    'keyUsage=critical,digitalSignature',
    'extendedKeyUsage=codeSigning',
    `1.3.6.1.4.1.57264.1.1=DER:${issuer}`,
  ];
  return certifiedSigner(authority.issue(subject, { extensions }));
};
const byFulcio = (more: object = {}): object => ({
  type: 'sigstoreSigned',
  fulcio: { caPath: authority.certificate, oidcIssuer: ISSUER, subjectEmail: EMAIL },
  rekorPublicKeyData: base64(log.publicKey),
  signedIdentity: { type: 'matchRepository' },
  ...more,
});

function writePolicy(policy: unknown): string {
  const path = join(dir, `policy${count++}.json`);
  writeFileSync(path, typeof policy === 'string' ? policy : JSON.stringify(policy));
  return path;
}

/** Rejects as a pull does. */
async function check(name: string, requirements: object[]): Promise<void> {
  const signal = new AbortController().signal;
  const gate = await SignatureGate.open(writePolicy({ default: requirements }), parseReference(name));
  const source = new RegistryClient().repository(parseReference(name));
  const resolved = await source.resolve({ platform: { os: 'linux', architecture: 'amd64' }, signal });
  await gate.check(source, resolved, signal);
}

/** An image of its own, `:v1`. */
async function push(): Promise<{ path: string; name: string; digest: string; size: number }> {
  const path = `team/app${count++}`;
  const parts = { config: JSON.stringify({ count }), layers: ['x'] };
  const digest = await pushManifest(served.url, path, 'v1', parts);
  return { path, name: `${host}/${path}`, digest, size: manifestOf(parts).length };
}

type Image = Awaited<ReturnType<typeof push>>;
const tagged =
  (...layers: ((image: Image) => Layer)[]) =>
  (image: Image): Promise<void> =>
    tagSignatures(
      served.url,
      image.path,
      image.digest,
      layers.map((layer) => layer(image)),
    );
const referred =
  (layer: (image: Image) => Layer) =>
  (image: Image): Promise<void> =>
    referSignature(
      served.url,
      image.path,
      { mediaType: MEDIA_TYPES.ociManifest, digest: image.digest, size: image.size },
      layer(image),
    );
const signed = (by: Signer, tag = '', logged?: Signer) =>
  tagged(({ digest, name }) => cosignLayer(by, digest, name + tag, logged));

type Attach = (image: Image) => Promise<void>;
type Requires = (image: Image) => object[];
const REPOSITORY = { signedIdentity: { type: 'matchRepository' } };
const DIGEST = { signedIdentity: { type: 'matchDigest' } };
const unsigned: Attach = async () => undefined;
const bundled = (by: Signer, predicate?: string): Attach =>
  referred(({ digest }) => bundleLayer(by, digest, predicate));

describe('a pull', () => {
  it.each<[what: string, attach: Attach, requires: Requires, suffix?: string]>([
    ['an unsigned image where anything is accepted', unsigned, () => [{ type: 'insecureAcceptAnything' }]],
    ['a signature for the exact name', signed(ann, ':v1'), () => [byKey()]],
    ['a signature for the repository, as cosign makes it', signed(ann), () => [byKey(REPOSITORY)]],
    ['any tag of the repository, by digest', signed(ann, ':v9'), () => [byKey()], '@'],
    [
      'the second of two keys, and of two signatures',
      tagged(
        ({ digest, name }) => cosignLayer(newSigner(), digest, name),
        ({ digest, name }) => cosignLayer(ann, digest, name),
      ),
      () => [{ ...REPOSITORY, type: 'sigstoreSigned', keyDatas: [base64(bob.publicKey), base64(ann.publicKey)] }],
    ],
    [
      'two requirements, each by its signature',
      tagged(
        ({ digest, name }) => cosignLayer(ann, digest, name),
        ({ digest, name }) => cosignLayer(bob, digest, name),
      ),
      () => [byKey(REPOSITORY), byKey({ ...REPOSITORY, keyData: base64(bob.publicKey) })],
    ],
    [
      'the name of the repository that it is a mirror of',
      tagged(({ digest, path }) => cosignLayer(ann, digest, `vendor.example.com/${path}:v1`)),
      () => [byKey({ signedIdentity: { type: 'remapIdentity', prefix: host, signedPrefix: 'vendor.example.com' } })],
    ],
    [
      'a fixed repository',
      tagged(({ digest }) => cosignLayer(ann, digest, 'busybox:1')),
      () => [byKey({ signedIdentity: { type: 'exactRepository', dockerRepository: 'docker.io/library/busybox' } })],
    ],
    [
      'a fixed name',
      tagged(({ digest }) => cosignLayer(ann, digest, 'index.docker.io/library/busybox:1')),
      () => [byKey({ signedIdentity: { type: 'exactReference', dockerReference: 'busybox:1' } })],
    ],
    ['a sigstore bundle that refers to it', bundled(ann), () => [byKey(DIGEST)]],
    [
      'a key whose signature is in the log',
      signed(ann, '', log),
      () => [byKey({ ...REPOSITORY, rekorPublicKeyData: base64(log.publicKey) })],
    ],
    ['a certificate of Fulcio', (image) => signed(fulcio(EMAIL), '', log)(image), () => [byFulcio()]],
  ])('takes %s', async (_what, attach, requires, suffix = ':v1') => {
    const image = await push();
    await attach(image);
    await check(image.name + (suffix === '@' ? `@${image.digest}` : suffix), requires(image));
  });

  it.each<[what: string, attach: Attach, requires: Requires, cause: RegExp]>([
    ['what the policy rejects', signed(ann), () => [{ type: 'reject' }], /the policy rejects it/],
    ['no signature', unsigned, () => [byKey()], /it has no signature/],
    ['another key', signed(bob), () => [byKey(REPOSITORY)], /signature verification failed/],
    [
      'only one of two',
      signed(ann),
      () => [byKey(REPOSITORY), byKey({ ...REPOSITORY, keyData: base64(bob.publicKey) })],
      /failed/,
    ],
    [
      "another image's signature",
      tagged(({ name }) => cosignLayer(ann, digestOf('other'), name)),
      () => [byKey(REPOSITORY)],
      /it is for sha256:[0-9a-f]{64}, another image/,
    ],
    [
      'another repository',
      tagged(({ digest }) => cosignLayer(ann, digest, 'busybox')),
      () => [byKey(REPOSITORY)],
      /it is for busybox, not for 127/,
    ],
    ['another tag', signed(ann, ':v2'), () => [byKey()], /:v2, not for .*:v1/],
    ['a name without the tag that is asked for', signed(ann), () => [byKey()], /not for .*:v1/],
    [
      'a payload that was changed',
      tagged(({ digest, name }) => ({
        ...cosignLayer(ann, digest, name),
        data: cosignLayer(ann, digest, `${name}2`).data,
      })),
      () => [byKey(REPOSITORY)],
      /signature verification failed/,
    ],
    [
      'no signature in the annotations',
      tagged(({ digest, name }) => ({ ...cosignLayer(ann, digest, name), annotations: {} })),
      () => [byKey(REPOSITORY)],
      /no annotation dev.cosignproject.cosign\/signature/,
    ],
    ['a bundle, which names no repository', bundled(ann), () => [byKey()], /names no repository/],
    ["another's bundle", bundled(bob), () => [byKey(DIGEST)], /signature verification failed/],
    ['a list of parts that is signed', bundled(ann, 'https://spdx.dev/Document'), () => [byKey(DIGEST)], /spdx/],
    [
      'a key that no log has',
      signed(ann),
      () => [byKey({ ...REPOSITORY, rekorPublicKeyData: base64(log.publicKey) })],
      /expected 1 tlog entries, got 0/,
    ],
    [
      'another log',
      signed(ann, '', bob),
      () => [byKey({ ...REPOSITORY, rekorPublicKeyData: base64(log.publicKey) })],
      /inclusion promise could not be verified/,
    ],
    [
      'another subject',
      (image) => signed(fulcio('eve@example.com'), '', log)(image),
      () => [byFulcio()],
      /it is by eve@example.com of .*, not by ann@/,
    ],
    ['a key in place of a certificate', signed(ann, '', log), () => [byFulcio()], /a certificate is asked for/],
    [
      'a certificate of another authority',
      (image) => {
        const other = new TestAuthority(join(dir, `ca${count++}`));
        return signed(
          certifiedSigner(other.issue('x', { extensions: [`subjectAltName=email:${EMAIL}`] })),
          '',
          log,
        )(image);
      },
      () => [byFulcio()],
      /Failed to verify certificate chain/,
    ],
  ])('refuses %s', async (_what, attach, requires, cause) => {
    const image = await push();
    await attach(image);
    const refused = check(`${image.name}:v1`, requires(image));
    await expect(refused).rejects.toMatchObject({ kind: 'Forbidden', code: 'SIGNATURE_REFUSED' });
    await expect(refused).rejects.toThrow(cause);
    await expect(refused).rejects.toThrow(`${image.name}:v1 may not be pulled (${dir}`);
  });

  it('takes a signature of the index for the image that it names', async () => {
    const { path, name, digest, size } = await push();
    const platform = { os: 'linux', architecture: 'amd64' };
    const manifests = [{ mediaType: MEDIA_TYPES.ociManifest, digest, size, platform }];
    const index = JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests });
    await putManifest(served.url, path, 'all', index, { 'content-type': MEDIA_TYPES.ociIndex });
    await tagSignatures(served.url, path, digestOf(index), [cosignLayer(ann, digestOf(index), name)]);
    await check(`${name}:all`, [byKey(REPOSITORY)]);
    await expect(check(`${name}:v1`, [byKey(REPOSITORY)])).rejects.toThrow(/it has no signature/);
  });
});

describe('a policy', () => {
  const ANY = [{ type: 'insecureAcceptAnything' }];
  it.each<[image: string, place: string]>([
    ['busybox:1', 'scope "docker.io/library/busybox:1"'],
    ['busybox:2', 'scope "docker.io/library/busybox"'],
    ['alpine', 'scope "docker.io/library"'],
    ['docker.io/team/app', 'scope "docker.io"'],
    [`busybox@sha256:${'a'.repeat(64)}`, 'scope "docker.io/library/busybox"'],
    ['a.b.example.com:5000/x', 'scope "*.example.com:5000"'],
    ['a.b.example.com/x', 'scope ""'],
  ])('has for %s the narrowest scope', async (image, place) => {
    const scopes = [
      'docker.io/library/busybox:1',
      'docker.io/library/busybox',
      'docker.io/library',
      'docker.io',
      '*.example.com:5000',
      '',
    ];
    const docker = Object.fromEntries(scopes.map((scope) => [scope, ANY]));
    const policy = await SignaturePolicy.read(writePolicy({ default: [{ type: 'reject' }], transports: { docker } }));
    expect(policy.requirements(parseReference(image)).place).toBe(place);
  });

  it.each<[policy: unknown, problem: RegExp]>([
    ['{', /JSON/],
    ['{"default":[],"default":[]}', /twice/],
    [{}, /"default" is missing/],
    [{ default: [] }, /no list of requirements/],
    [{ default: ANY, more: 1 }, /unknown field "more"/],
    [{ default: [{ type: 'signedBy', keyPath: 'x' }] }, /signedBy \(GPG\) is not supported/],
    [{ default: [{ type: 'other' }] }, /unknown type "other"/],
    [{ default: [{ type: 'reject', keyPath: 'x' }] }, /unknown field "keyPath"/],
    [{ default: [{ type: 'sigstoreSigned' }] }, /exactly one of keyPath/],
    [{ default: [byKey({ keyPath: '/x' })] }, /both keyPath and keyData/],
    [{ default: [byKey({ pki: {} })] }, /"pki" is not supported/],
    [{ default: [{ type: 'sigstoreSigned', keyPath: '/nowhere.pub' }] }, /keyPath: ENOENT/],
    [{ default: [{ type: 'sigstoreSigned', keyData: base64('x') }] }, /a key cannot be read/],
    [{ default: [byKey({ signedIdentity: { type: 'matchAll' } })] }, /unknown signedIdentity "matchAll"/],
    [{ default: [byKey({ signedIdentity: { type: 'remapIdentity', prefix: 'x' } })] }, /needs signedPrefix/],
    [
      { default: ANY, transports: { docker: { 'docker.io': [{ type: 'reject' }, 1] } } },
      /docker "docker.io", requirement 2/,
    ],
    [{ default: [{ type: 'sigstoreSigned', fulcio: {} }] }, /fulcio needs one of rekorPublicKeyPath/],
  ])('that is wrong is refused: %j', async (policy, problem) => {
    const read = SignaturePolicy.read(writePolicy(policy));
    await expect(read).rejects.toMatchObject({ kind: 'InvalidParameter', code: 'SIGNATURE_POLICY_INVALID' });
    await expect(read).rejects.toThrow(problem);
  });

  it('takes keys from files', async () => {
    const path = join(dir, 'ann.pub');
    writeFileSync(path, ann.publicKey);
    const { requirements } = (
      await SignaturePolicy.read(writePolicy({ default: [{ type: 'sigstoreSigned', keyPath: path }] }))
    ).requirements(parseReference('busybox'));
    expect(requirements).toMatchObject([{ type: 'sigstoreSigned', identity: { type: 'matchRepoDigestOrExact' } }]);
  });
});
