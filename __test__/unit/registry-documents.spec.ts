/** Manifests, indexes and platforms: what is taken for which, and what is refused. */
import { describe, expect, it } from 'vitest';
import { CaissonError } from '../../ts/errdefs.ts';
import type { Descriptor } from '../../ts/oci.ts';
import { decode } from '../../ts/registry/client/documents.ts';
import { choosePlatform } from '../../ts/registry/client/platform.ts';
import { isInsecure, proxyFor } from '../../ts/registry/client/settings.ts';
import { parseManifest } from '../../ts/registry/server/document.ts';
import { OCI_INDEX, OCI_MANIFEST } from '../helpers/scriptedRegistry.ts';

const digest = `sha256:${'a'.repeat(64)}`;
const config = { mediaType: 'application/vnd.oci.image.config.v1+json', digest, size: 2 };
const layer = { mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest, size: 10 };
const manifest = { schemaVersion: 2, config, layers: [layer] };
const bytes = (value: unknown): Uint8Array => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value));

describe('documents', () => {
  it('are manifests or indexes', () => {
    expect(decode(bytes(manifest), OCI_MANIFEST).kind).toBe('manifest');
    expect(decode(bytes(manifest), `${OCI_MANIFEST}; charset=utf-8`).kind).toBe('manifest');
    expect(
      decode(bytes({ schemaVersion: 2, manifests: [{ ...layer, mediaType: OCI_MANIFEST }] }), OCI_INDEX).kind,
    ).toBe('index');
  });

  it('say no platform by an empty one', () => {
    const entry = { ...layer, mediaType: OCI_MANIFEST, platform: { os: '', architecture: '' } };
    expect(decode(bytes({ schemaVersion: 2, manifests: [entry] }), OCI_INDEX)).toMatchObject({
      index: { manifests: [{ ...layer, mediaType: OCI_MANIFEST }] },
    });
  });

  it.each([
    'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
    'application/vnd.oci.image.layer.nondistributable.v1.tar',
    'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
  ])('have layers that are not to be distributed: %s', (mediaType) => {
    const decoded = decode(bytes({ ...manifest, layers: [{ ...layer, mediaType }] }), OCI_MANIFEST);
    expect(decoded).toMatchObject({ manifest: { layers: [{ digest, mediaType }] } });
  });

  it.each([
    ['an index that is a manifest too', { ...manifest, manifests: [] }, OCI_INDEX, 'both an index and a manifest'],
    [
      'an index served as a manifest',
      { schemaVersion: 2, manifests: [] },
      OCI_MANIFEST,
      'expected manifest but found index',
    ],
    ['a manifest served as an index', manifest, OCI_INDEX, 'expected index but found manifest'],
    ['another media type inside', { ...manifest, mediaType: OCI_INDEX }, OCI_MANIFEST, 'served as'],
    ['schema 1', { schemaVersion: 1, fsLayers: [] }, OCI_MANIFEST, 'schema 1'],
    ['a schema-1 part', { ...manifest, fsLayers: [] }, OCI_MANIFEST, 'schema 1'],
    ['a key that others read as another', { ...manifest, Layers: [] }, OCI_MANIFEST, 'which some read as layers'],
    [
      'a key of a descriptor that others read as another',
      { ...manifest, layers: [{ ...layer, Digest: layer.digest }] },
      OCI_MANIFEST,
      'layers[0] has the key "Digest", which some read as digest',
    ],
    ['a key twice', '{"schemaVersion":2,"layers":[],"layers":[]}', OCI_MANIFEST, 'appears twice'],
    ['no object', [], OCI_MANIFEST, 'no object'],
    ['null', 'null', OCI_MANIFEST, 'no object'],
    ['no JSON', '{', OCI_MANIFEST, 'not JSON'],
    ['a web page', '<html>', 'text/html', 'not JSON'],
    ['deep nesting', '['.repeat(1_000_000), OCI_MANIFEST, 'not JSON'],
    ['layers null', { ...manifest, layers: null }, OCI_MANIFEST, 'layers is no list'],
    ['a layer null', { ...manifest, layers: [null] }, OCI_MANIFEST, 'layers[0] is no object'],
    ['a size as text', { ...manifest, layers: [{ ...layer, size: '1' }] }, OCI_MANIFEST, 'no valid size'],
    ['a negative size', { ...manifest, layers: [{ ...layer, size: -1 }] }, OCI_MANIFEST, 'no valid size'],
    ['a huge size', { ...manifest, layers: [{ ...layer, size: 1e300 }] }, OCI_MANIFEST, 'no valid size'],
    [
      'a path for a digest',
      { ...manifest, config: { ...config, digest: 'sha256:../../x' } },
      OCI_MANIFEST,
      'no valid digest',
    ],
    ['too many layers', { ...manifest, layers: Array(501).fill(layer) }, OCI_MANIFEST, '501 layers'],
    [
      'an encrypted layer',
      { ...manifest, layers: [{ ...layer, mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip+encrypted' }] },
      OCI_MANIFEST,
      'unsupported layer',
    ],
    [
      'no image',
      { ...manifest, config: { ...config, mediaType: 'application/vnd.cncf.helm.config.v1+json' } },
      OCI_MANIFEST,
      'no container image',
    ],
  ])('refuse %s', (_what, document, type, message) => {
    expect(() => decode(bytes(document), type)).toThrow(message);
  });

  it('answer 5,000 mutations with one meaning, the same at both ends, or a named refusal (row 38)', () => {
    const own = { ...layer, digest: `sha256:${'b'.repeat(64)}` };
    const texts = [
      { ...manifest, layers: [own] },
      { schemaVersion: 2, manifests: [{ ...layer, mediaType: OCI_MANIFEST }] },
    ];
    const pieces = [
      'null',
      '1e999',
      '-1',
      '9'.repeat(400),
      '{}',
      '[',
      '""',
      '"layers":[],',
      '\u0000',
      '}',
      '['.repeat(1e5),
    ];
    // A fixed sequence (linear congruential), so that a failure can be repeated.
    let seed = 1;
    const next = (below: number): number => {
      seed = (seed * 1103515245 + 12345) % 2147483648;
      return seed % below;
    };
    let read = 0;
    for (let i = 0; i < 5000; i++) {
      const text = JSON.stringify(texts[i % 2]);
      const type = i % 2 === 0 ? OCI_MANIFEST : OCI_INDEX;
      const at = next(text.length);
      const mutated = Buffer.from(text.slice(0, at) + pieces[next(pieces.length)] + text.slice(at + next(12)));
      let pulled: ReturnType<typeof decode> | undefined;
      try {
        pulled = decode(mutated, type);
      } catch (error) {
        expect(error).toBeInstanceOf(CaissonError);
      }
      if (pulled === undefined) continue;
      read++;
      const served = parseManifest(mutated, type, undefined);
      const named =
        pulled.kind === 'index' ? pulled.index.manifests : [pulled.manifest.config, ...pulled.manifest.layers];
      expect(served.references.map((one) => one.digest)).toEqual(named.map((one) => one.digest));
    }
    expect(read).toBeGreaterThan(50);
  });
});

describe('platforms', () => {
  const index = (...names: string[]): Descriptor[] =>
    names.map((name, i) => {
      if (name === '') return { mediaType: OCI_MANIFEST, digest, size: i };
      const [os = '', architecture = '', variant] = name.split('/');
      return { mediaType: OCI_MANIFEST, digest, size: i, platform: { os, architecture, ...(variant && { variant }) } };
    });
  const choose = (wanted: string, ...names: string[]): number | undefined =>
    choosePlatform(index(...names), index(wanted)[0]?.platform ?? { os: '', architecture: '' })?.size;

  it.each([
    ['linux/amd64', ['unknown/unknown', 'linux/arm64', 'linux/amd64'], 2],
    ['linux/amd64', ['unknown/unknown'], undefined],
    ['unknown/unknown', ['unknown/unknown'], undefined],
    ['linux/amd64', ['linux/386', 'linux/amd64'], 1],
    ['linux/amd64', ['linux/386'], 0],
    ['linux/amd64', ['linux/amd64/v3', 'windows/amd64'], undefined],
    ['linux/amd64/v3', ['linux/amd64', 'linux/amd64/v2'], 1],
    ['linux/arm64', ['linux/arm/v7', 'linux/arm64/v8'], 1],
    ['linux/arm64/v8', ['linux/arm64'], 0],
    ['linux/arm64', ['linux/arm/v6', 'linux/arm/v7'], 1],
    ['linux/arm/v6', ['linux/arm/v7', 'linux/arm/v5'], 1],
    ['linux/arm', ['linux/arm/v7'], 0],
    ['linux/s390x', ['linux/amd64', 'linux/s390x'], 1],
    ['linux/amd64', ['', 'linux/arm64'], 0],
    ['linux/amd64', ['', 'linux/amd64'], 1],
    ['linux/amd64', ['unknown/unknown', '', ''], 1],
  ])('for %s of %j: %j', (wanted, names, at) => {
    expect(choose(wanted, ...names)).toBe(at);
  });
});

describe('settings', () => {
  it.each([
    ['localhost:5000', [], true],
    ['127.0.0.2', [], true],
    ['[::1]:5000', [], true],
    ['10.1.2.3:5000', ['10.0.0.0/8'], true],
    ['11.1.2.3:5000', ['10.0.0.0/8'], false],
    ['reg.test:5000', ['reg.test:5000'], true],
    ['reg.test:5001', ['reg.test:5000'], false],
    ['127.evil.com', [], false],
  ])('%s with %j insecure: %j', (host, list, insecure) => {
    expect(isInsecure(host, list)).toBe(insecure);
  });

  it.each([
    ['https://reg.test/', '', 'https-proxy'],
    ['http://reg.test/', '', 'http-proxy'],
    ['https://127.0.0.1:5000/', '', ''],
    ['https://reg.test/', 'reg.test', ''],
    ['https://a.reg.test/', 'reg.test', ''],
    ['https://areg.test/', 'reg.test', 'https-proxy'],
    ['https://reg.test/', '.reg.test', 'https-proxy'],
    ['https://reg.test:8443/', 'reg.test:443', 'https-proxy'],
    ['https://10.1.1.1/', 'x, 10.0.0.0/8', ''],
    ['https://reg.test/', '*', ''],
  ])('%s with NO_PROXY %j by %j', (url, no, proxy) => {
    expect(proxyFor(new URL(url), { http: 'http-proxy', https: 'https-proxy', no })).toBe(proxy);
  });
});
