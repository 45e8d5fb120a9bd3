/** The distribution specification's API, as clients use it. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MEDIA_TYPES } from '../../ts/oci.ts';
import {
  bytesOf,
  codesOf,
  digestOf,
  manifestOf,
  pushBlob,
  pushManifest,
  putManifest,
  type ServedRegistry,
  serveRegistry,
} from '../helpers/servedRegistry.ts';

let served: ServedRegistry;
let url: string;
beforeAll(async () => {
  served = await serveRegistry({ allowDelete: true });
  url = served.url;
});
afterAll(() => served[Symbol.asyncDispose]());

const get = (path: string, headers: Record<string, string> = {}, method = 'GET'): Promise<Response> =>
  fetch(`${url}/v2/${path}`, { method, headers });

describe('blobs', () => {
  it('come back whole, with digest, size and tag of the entity', async () => {
    const digest = await pushBlob(url, 'blobs/one', 'hello world');
    for (const method of ['GET', 'HEAD']) {
      const answer = await get(`blobs/one/blobs/${digest}`, {}, method);
      expect(answer.status).toBe(200);
      expect(answer.headers.get('docker-content-digest')).toBe(digest);
      expect(answer.headers.get('content-length')).toBe('11');
      expect(answer.headers.get('etag')).toBe(`"${digest}"`);
      expect(await answer.text()).toBe(method === 'GET' ? 'hello world' : '');
    }
  });

  it('are found in their own repository only', async () => {
    const digest = await pushBlob(url, 'blobs/mine', 'private');
    const answer = await get(`blobs/other/blobs/${digest}`);
    expect(answer.status).toBe(404);
    expect(await codesOf(answer)).toEqual(['BLOB_UNKNOWN']);
  });

  it.each([
    ['bytes=0-3', 206, '0123', 'bytes 0-3/10'],
    ['bytes=7-', 206, '789', 'bytes 7-9/10'],
    ['bytes=-2', 206, '89', 'bytes 8-9/10'],
    ['bytes=-200', 206, '0123456789', 'bytes 0-9/10'],
    ['bytes=4-400', 206, '456789', 'bytes 4-9/10'],
    ['bytes=10-', 416, undefined, 'bytes */10'],
    ['bytes=-0', 416, undefined, 'bytes */10'],
    ['bytes=3-1', 200, '0123456789', null],
    ['bytes=0-1,4-5', 200, '0123456789', null],
    ['lines=1-2', 200, '0123456789', null],
  ])('range %s', async (range, status, body, contentRange) => {
    const digest = await pushBlob(url, 'blobs/range', '0123456789');
    const answer = await get(`blobs/range/blobs/${digest}`, { range });
    expect(answer.status).toBe(status);
    expect(answer.headers.get('content-range')).toBe(contentRange);
    const text = await answer.text();
    if (body !== undefined) expect(text).toBe(body);
  });

  it('of more than one buffer come whole and in ranges', async () => {
    const data = Buffer.alloc(3_500_000, 'some bytes that repeat, ');
    const digest = await pushBlob(url, 'blobs/large', data);
    const whole = await get(`blobs/large/blobs/${digest}`);
    expect(digestOf(new Uint8Array(await whole.arrayBuffer()))).toBe(digest);
    const part = await get(`blobs/large/blobs/${digest}`, { range: 'bytes=1000000-2499999' });
    expect(Buffer.from(await part.arrayBuffer()).equals(data.subarray(1_000_000, 2_500_000))).toBe(true);
  });

  it('are not sent again to who has them', async () => {
    const digest = await pushBlob(url, 'blobs/etag', 'cached');
    expect((await get(`blobs/etag/blobs/${digest}`, { 'if-none-match': `W/"x", "${digest}"` })).status).toBe(304);
    expect((await get(`blobs/etag/blobs/${digest}`, { 'if-none-match': '"sha256:0"' })).status).toBe(200);
    const stale = await get(`blobs/etag/blobs/${digest}`, { range: 'bytes=0-1', 'if-range': '"other"' });
    expect(stale.status).toBe(200);
  });

  it('are deleted, but not while a manifest names them', async () => {
    const manifest = await pushManifest(url, 'blobs/used', 'v1', { config: '{"c":1}', layers: ['used layer'] });
    const layer = digestOf('used layer');
    const refused = await get(`blobs/used/blobs/${layer}`, {}, 'DELETE');
    expect(refused.status).toBe(405);
    expect(await codesOf(refused)).toEqual(['UNSUPPORTED']);
    expect((await get(`blobs/used/manifests/${manifest}`, {}, 'DELETE')).status).toBe(202);
    expect((await get(`blobs/used/blobs/${layer}`, {}, 'DELETE')).status).toBe(202);
    expect((await get(`blobs/used/blobs/${layer}`)).status).toBe(404);
    expect((await get(`blobs/used/blobs/${layer}`, {}, 'DELETE')).status).toBe(404);
  });

  it.each(['sha256:abc', 'md5:d41d8cd98f00b204e9800998ecf8427e', `sha256:${'A'.repeat(64)}`, 'sha256:..%2f..%2fetc'])(
    '%s is no digest',
    async (digest) => {
      const answer = await get(`blobs/one/blobs/${digest}`);
      expect([400, 404]).toContain(answer.status);
      expect(['DIGEST_INVALID', 'UNSUPPORTED', 'NAME_INVALID']).toContain((await codesOf(answer))[0]);
    },
  );

  it('are mounted from a repository that has them, or from any', async () => {
    const digest = await pushBlob(url, 'mount/source', 'mounted');
    const post = (query: string): Promise<Response> =>
      fetch(`${url}/v2/mount/target/blobs/uploads/?${query}`, { method: 'POST' });
    expect((await post(`mount=${digest}&from=mount/wrong`)).status).toBe(202);
    const mounted = await post(`mount=${digest}&from=mount/source`);
    expect(mounted.status).toBe(201);
    expect(mounted.headers.get('location')).toBe(`/v2/mount/target/blobs/${digest}`);
    expect(await (await get(`mount/target/blobs/${digest}`)).text()).toBe('mounted');
    const anonymous = await fetch(`${url}/v2/mount/third/blobs/uploads/?mount=${digest}`, { method: 'POST' });
    expect(anonymous.status).toBe(201);
    expect((await post(`mount=${digestOf('nowhere')}`)).status).toBe(202);
  });
});

describe('manifests', () => {
  it('come back byte for byte by tag and digest, with their own media type', async () => {
    const body = `${manifestOf({ config: '{}', layers: [] })}\n  \n`;
    await pushBlob(url, 'm/bytes', '{}');
    const put = await putManifest(url, 'm/bytes', 'v1', body, {
      'content-type': `${MEDIA_TYPES.ociManifest}; charset=utf-8`,
    });
    expect(put.status).toBe(201);
    expect(put.headers.get('docker-content-digest')).toBe(digestOf(body));
    for (const reference of ['v1', digestOf(body)]) {
      const answer = await get(`m/bytes/manifests/${reference}`);
      expect(answer.headers.get('content-type')).toBe(MEDIA_TYPES.ociManifest);
      expect(answer.headers.get('docker-content-digest')).toBe(digestOf(body));
      expect(await answer.text()).toBe(body);
      const head = await get(`m/bytes/manifests/${reference}`, {}, 'HEAD');
      expect(head.headers.get('content-length')).toBe(String(body.length));
    }
    expect((await get('m/bytes/manifests/v1', { 'if-none-match': `"${digestOf(body)}"` })).status).toBe(304);
  });

  it('are refused with every blob that is missing named', async () => {
    const answer = await putManifest(url, 'm/missing', 'v1', manifestOf({ config: 'c', layers: ['l'] }));
    expect(answer.status).toBe(400);
    const { errors } = (await answer.json()) as { errors: { code: string; detail: { digest: string } }[] };
    expect(errors.map(({ code, detail }) => [code, detail.digest])).toEqual([
      ['MANIFEST_BLOB_UNKNOWN', digestOf('c')],
      ['MANIFEST_BLOB_UNKNOWN', digestOf('l')],
    ]);
    expect((await get('m/missing/manifests/v1')).status).toBe(404);
  });

  it('by sha512, with further tags', async () => {
    await pushBlob(url, 'm/tags', '{}');
    const body = manifestOf({ config: '{}', layers: [], annotations: { of: 'tags' } });
    const digest = digestOf(body, 'sha512');
    const answer = await putManifest(url, 'm/tags', `${digest}?tag=a&tag=b`, body);
    expect(answer.headers.get('oci-tag')).toBe('a, b');
    expect(answer.headers.get('docker-content-digest')).toBe(digest);
    expect((await get('m/tags/manifests/b')).headers.get('docker-content-digest')).toBe(digest);
  });

  it('of another digest than the path says are refused', async () => {
    const answer = await putManifest(url, 'm/wrong', digestOf('other'), manifestOf({ config: '{}', layers: [] }));
    expect([answer.status, ...(await codesOf(answer))]).toEqual([400, 'DIGEST_INVALID']);
  });

  it('a tag is moved only when it is where the client thinks', async () => {
    const first = await pushManifest(url, 'm/if', 'v', { config: '{}', layers: ['1'] });
    await pushBlob(url, 'm/if', '2');
    const next = manifestOf({ config: '{}', layers: ['2'] });
    expect((await putManifest(url, 'm/if', 'v', next, { 'if-match': `"${digestOf('x')}"` })).status).toBe(412);
    expect((await putManifest(url, 'm/if', 'v', next, { 'if-none-match': '*' })).status).toBe(412);
    expect((await get('m/if/manifests/v')).headers.get('docker-content-digest')).toBe(first);
    expect((await putManifest(url, 'm/if', 'v', next, { 'if-match': `"${first}"` })).status).toBe(201);
    expect((await putManifest(url, 'm/if', 'new', next, { 'if-none-match': '*' })).status).toBe(201);
  });

  it('deleting one takes its tags, deleting a tag leaves the manifest', async () => {
    const digest = await pushManifest(url, 'm/delete', 'a', { config: '{}', layers: [] });
    await putManifest(url, 'm/delete', 'b', manifestOf({ config: '{}', layers: [] }));
    expect((await get('m/delete/manifests/a', {}, 'DELETE')).status).toBe(202);
    expect((await get('m/delete/manifests/a')).status).toBe(404);
    expect((await get(`m/delete/manifests/${digest}`)).status).toBe(200);
    expect((await get(`m/delete/manifests/${digest}`, {}, 'DELETE')).status).toBe(202);
    for (const gone of ['b', digest])
      expect(await codesOf(await get(`m/delete/manifests/${gone}`))).toEqual(['MANIFEST_UNKNOWN']);
    expect((await get(`m/delete/manifests/${digest}`, {}, 'DELETE')).status).toBe(404);
  });
});

describe('one digest has one meaning (row 39)', () => {
  const config = { mediaType: MEDIA_TYPES.ociConfig, digest: digestOf('{}'), size: 2 };
  it.each<[string, string, object | string]>([
    ['both an index and a manifest', MEDIA_TYPES.ociManifest, { schemaVersion: 2, config, layers: [], manifests: [] }],
    ['an index as manifest', MEDIA_TYPES.ociManifest, { schemaVersion: 2, manifests: [] }],
    ['a manifest as index', MEDIA_TYPES.ociIndex, { schemaVersion: 2, config, layers: [] }],
    [
      'schema 1',
      'application/vnd.docker.distribution.manifest.v1+json',
      { schemaVersion: 1, fsLayers: [], history: [] },
    ],
    ['schema 1 inside', MEDIA_TYPES.ociManifest, { schemaVersion: 2, config, layers: [], fsLayers: [] }],
    [
      'another mediaType than the header',
      MEDIA_TYPES.ociManifest,
      { schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests: [] },
    ],
    [
      'a key that differs by its case',
      MEDIA_TYPES.ociManifest,
      { schemaVersion: 2, config, layers: [], Manifests: [] },
    ],
    ['no schemaVersion', MEDIA_TYPES.ociManifest, { config, layers: [] }],
    [
      'a digest that is a path',
      MEDIA_TYPES.ociManifest,
      { schemaVersion: 2, config: { ...config, digest: 'sha256:../../x' }, layers: [] },
    ],
    ['a size below zero', MEDIA_TYPES.ociManifest, { schemaVersion: 2, config: { ...config, size: -1 }, layers: [] }],
    [
      'two sizes of one digest',
      MEDIA_TYPES.ociManifest,
      { schemaVersion: 2, config, layers: [{ ...config, size: 3 }] },
    ],
    ['an unknown media type', 'application/vnd.example+json', { schemaVersion: 2, config, layers: [] }],
    ['no JSON', MEDIA_TYPES.ociManifest, '{"schemaVersion":2,'],
    ['nesting without end', MEDIA_TYPES.ociManifest, '['.repeat(1_000_000)],
  ])('%s is refused', async (_what, mediaType, document) => {
    await pushBlob(url, 'm/meaning', '{}');
    const body = typeof document === 'string' ? document : JSON.stringify(document);
    const answer = await putManifest(url, 'm/meaning', 'v', body, { 'content-type': mediaType });
    expect([answer.status, ...(await codesOf(answer))]).toEqual([400, 'MANIFEST_INVALID']);
  });

  it('the same bytes are not taken as another type, in whatever repository', async () => {
    const body = JSON.stringify({ schemaVersion: 2, manifests: [] });
    expect((await putManifest(url, 'm/first', 'v', body, { 'content-type': MEDIA_TYPES.ociIndex })).status).toBe(201);
    const answer = await putManifest(url, 'm/second', 'v', body, { 'content-type': MEDIA_TYPES.dockerList });
    expect([answer.status, ...(await codesOf(answer))]).toEqual([400, 'MANIFEST_INVALID']);
  });
});

describe('lists (row 59)', () => {
  beforeAll(async () => {
    await pushBlob(url, 'lists/many', '{}');
    const digest = digestOf(manifestOf({ config: '{}', layers: [] }));
    for (let from = 0; from < 1100; from += 100) {
      const tags = Array.from({ length: 100 }, (_, i) => `tag=t${String(from + i).padStart(4, '0')}`).join('&');
      const answer = await putManifest(
        url,
        'lists/many',
        `${digest}?${tags}`,
        manifestOf({ config: '{}', layers: [] }),
      );
      expect(answer.status).toBe(201);
    }
  });

  const tagsOf = async (answer: Response): Promise<string[]> => ((await answer.json()) as { tags: string[] }).tags;

  it.each(['?n=10000', '?n=2147483647', '?n=99999999999999999999', '?n=', ''])(
    'tags/list%s is clamped and goes on by Link',
    async (query) => {
      const answer = await get(`lists/many/tags/list${query}`);
      expect(answer.status).toBe(200);
      expect(await tagsOf(answer)).toHaveLength(1000);
      const link = /^<(.+)>; rel="next"$/.exec(answer.headers.get('link') ?? '')?.[1] ?? '';
      const rest = await fetch(url + link);
      expect(await tagsOf(rest)).toHaveLength(100);
      expect(rest.headers.get('link')).toBeNull();
    },
  );

  it('pages of n, after last, in ASCII order', async () => {
    const answer = await get('lists/many/tags/list?n=2&last=t0005');
    expect(await tagsOf(answer)).toEqual(['t0006', 't0007']);
    expect(answer.headers.get('link')).toBe('</v2/lists/many/tags/list?n=2&last=t0007>; rel="next"');
    const none = await get('lists/many/tags/list?n=0');
    expect([await tagsOf(none), none.headers.get('link')]).toEqual([[], null]);
    expect((await get('lists/many/tags/list?n=-1')).status).toBe(400);
    expect(await codesOf(await get('lists/absent/tags/list'))).toEqual(['NAME_UNKNOWN']);
  });

  it('the catalog likewise', async () => {
    for (const name of ['catalog/a', 'catalog/b', 'catalog/c'])
      await pushManifest(url, name, 'v', { config: '{}', layers: [] });
    const answer = await get('_catalog?n=2&last=catalog');
    expect(await answer.json()).toEqual({ repositories: ['catalog/a', 'catalog/b'] });
    expect(answer.headers.get('link')).toBe('</v2/_catalog?n=2&last=catalog%2Fb>; rel="next"');
    expect((await get('_catalog?n=2147483647')).status).toBe(200);
  });

  it('a manifest of 100 MiB is refused, one of 4 MiB is not', async () => {
    const answer = await putManifest(url, 'lists/large', 'v', Buffer.alloc(100 << 20, ' '));
    expect([answer.status, ...(await codesOf(answer))]).toEqual([413, 'SIZE_INVALID']);
    const document = JSON.parse(manifestOf({ config: '{}', layers: [], annotations: { pad: '' } }).toString());
    const size = JSON.stringify(document).length;
    document.annotations.pad = 'x'.repeat((4 << 20) - size);
    await pushBlob(url, 'lists/large', '{}');
    expect((await putManifest(url, 'lists/large', 'v', JSON.stringify(document))).status).toBe(201);
    document.annotations.pad += 'x';
    expect((await putManifest(url, 'lists/large', 'v', JSON.stringify(document))).status).toBe(413);
  });
});

describe('referrers', () => {
  it('are listed with type and annotations, filtered when asked, also for a subject that is not there', async () => {
    const subject = { mediaType: MEDIA_TYPES.ociManifest, digest: digestOf('absent subject'), size: 14 };
    await pushBlob(url, 'ref/s', '{}');
    const signature = manifestOf({
      config: '{}',
      layers: [],
      subject,
      artifactType: 'application/sig',
      annotations: { by: 'me' },
    });
    const sbom = manifestOf({ config: '{}', layers: [], subject });
    const put = await putManifest(url, 'ref/s', digestOf(signature), signature);
    expect(put.headers.get('oci-subject')).toBe(subject.digest);
    await putManifest(url, 'ref/s', digestOf(sbom), sbom);
    const answer = await get(`ref/s/referrers/${subject.digest}`);
    expect(answer.headers.get('content-type')).toBe(MEDIA_TYPES.ociIndex);
    expect(answer.headers.get('oci-filters-applied')).toBeNull();
    const { manifests } = (await answer.json()) as {
      manifests: { digest: string; artifactType: string; annotations?: object }[];
    };
    const find = (digest: string) => manifests.find((one) => one.digest === digest);
    expect(manifests).toHaveLength(2);
    expect(find(digestOf(signature))).toMatchObject({
      artifactType: 'application/sig',
      annotations: { by: 'me' },
      size: signature.length,
    });
    expect(find(digestOf(sbom))?.artifactType).toBe(MEDIA_TYPES.ociConfig);
    const filtered = await get(`ref/s/referrers/${subject.digest}?artifactType=application/sig`);
    expect(filtered.headers.get('oci-filters-applied')).toBe('artifactType');
    expect(((await filtered.json()) as { manifests: object[] }).manifests).toHaveLength(1);
    const first = await get(`ref/s/referrers/${subject.digest}?n=1`);
    const next = /<(.+)>/.exec(first.headers.get('link') ?? '')?.[1] ?? '';
    expect(((await (await fetch(url + next)).json()) as { manifests: object[] }).manifests).toHaveLength(1);
  });

  it('of nothing are an empty index; of no digest an error', async () => {
    const answer = await get(`ref/none/referrers/${digestOf('nothing')}`);
    expect(await answer.json()).toEqual({ schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests: [] });
    expect((await get('ref/none/referrers/sha256:12')).status).toBe(400);
  });
});

describe('names and methods', () => {
  it.each(['UPPER/case', 'a//b', '-x', 'a/../b', `${'a'.repeat(256)}`])('%s is no name', async (name) => {
    // fetch would resolve dots itself
    const answer = await get(`${name.replace('..', '%2e%2e')}/tags/list`);
    expect([400, 404]).toContain(answer.status);
  });

  it('a name may hold the words of the API', async () => {
    const name = 'a/blobs/b/manifests/uploads/tags/c';
    const digest = await pushManifest(url, name, 'list', { config: '{}', layers: [] });
    expect((await get(`${name}/manifests/list`)).headers.get('docker-content-digest')).toBe(digest);
    expect(await (await get(`${name}/tags/list`)).json()).toEqual({ name, tags: ['list'] });
  });

  it('an unknown path is 404, a wrong method 405', async () => {
    expect((await fetch(`${url}/v1/search`)).status).toBe(404);
    expect((await fetch(`${url}/v2/a/tags/list`, { method: 'POST', body: bytesOf('x') })).status).toBe(405);
    expect((await fetch(`${url}/v2/`)).headers.get('docker-distribution-api-version')).toBe('registry/2.0');
  });
});

it('deletes nothing unless it is told to: by tag, by digest, of blobs (row 61)', async () => {
  await using strict = await serveRegistry();
  const digest = await pushManifest(strict.url, 'kept', 'v', { config: '{}', layers: [] });
  for (const path of ['manifests/v', `manifests/${digest}`, `blobs/${digestOf('{}')}`]) {
    const answer = await fetch(`${strict.url}/v2/kept/${path}`, { method: 'DELETE' });
    expect([answer.status, ...(await codesOf(answer))]).toEqual([405, 'UNSUPPORTED']);
    expect((await fetch(`${strict.url}/v2/kept/${path}`)).status).toBe(200);
  }
});
