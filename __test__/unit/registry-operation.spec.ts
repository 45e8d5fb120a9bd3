/** Running a registry: TLS, metrics, access log, settings, one process a root. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { defaultConfig, loadRegistryConfig } from '../../ts/registry/server/config.ts';
import { startRegistry } from '../../ts/registry/server/server.ts';
import { ANYBODY, digestOf, pushBlob, serveRegistry } from '../helpers/servedRegistry.ts';

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'caisson-operation-'));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

function certificate(name: string): { certificate: string; key: string } {
  const made = { certificate: join(dir, `${name}.pem`), key: join(dir, `${name}.key`) };
  const args = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
  const subject = ['-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1'];
  execFileSync('openssl', [...args, ...subject, '-keyout', made.key, '-out', made.certificate], { stdio: 'ignore' });
  return made;
}

/** Status and the name on the certificate. */
function getTls(url: string, ca: string): Promise<{ status: number | undefined; name: string | undefined }> {
  return new Promise((resolve, reject) => {
    request(url, { ca: readFileSync(ca), agent: false }, (answer) => {
      const { subject } = (answer.socket as import('node:tls').TLSSocket).getPeerCertificate();
      answer.resume();
      resolve({ status: answer.statusCode, name: String(subject.CN) });
    })
      .once('error', reject)
      .end();
  });
}

it('speaks TLS, and takes a new certificate without a restart', async () => {
  const first = certificate('first');
  const second = certificate('second');
  const tls = { certificate: join(dir, 'served.pem'), key: join(dir, 'served.key') };
  const install = (made: typeof tls): void => {
    for (const part of ['certificate', 'key'] as const) writeFileSync(tls[part], readFileSync(made[part]));
  };
  install(first);
  await using served = await serveRegistry({ tls });
  expect(served.url).toMatch(/^https:/);
  expect(await getTls(`${served.url}/v2/`, first.certificate)).toEqual({ status: 200, name: 'first' });
  await expect(getTls(`${served.url}/v2/`, second.certificate)).rejects.toThrow(/self-signed/);
  install(second);
  served.running.reload();
  expect(await getTls(`${served.url}/v2/`, second.certificate)).toEqual({ status: 200, name: 'second' });
  await expect(serveRegistry({ tls: { ...tls, key: join(dir, 'absent') } })).rejects.toThrow(/TLS: .*absent/);
});

it('tells its metrics on an address of their own', async () => {
  await using served = await serveRegistry({ metrics: '127.0.0.1:0' });
  await pushBlob(served.url, 'metered', '0123456789');
  await (await fetch(`${served.url}/v2/metered/blobs/${digestOf('0123456789')}`)).text();
  await fetch(`${served.url}/v2/metered/blobs/${digestOf('absent')}`);
  await served.running.registry.collector.collect(Date.now() + 1e12);
  const metrics = await text((await fetch(`http://${served.running.metricsAddress}/metrics`)).body as never);
  for (const line of [
    'caisson_registry_request_seconds_count{method="POST",route="uploads",code="201"} 1',
    'caisson_registry_request_seconds_count{method="GET",route="blob",code="200"} 1',
    'caisson_registry_request_seconds_count{method="GET",route="blob",code="404"} 1',
    'caisson_registry_received_bytes_total 10',
    'caisson_registry_blobs 0',
    'caisson_registry_uploads_active 0',
    'caisson_registry_collected_total{what="blobs"} 1',
  ])
    expect(metrics).toContain(`${line}\n`);
  expect((await fetch(`${served.url}/metrics`)).status).toBe(404);
});

it('logs each request as one line of JSON, without what is secret', async () => {
  const lines: string[] = [];
  const log = pino({ level: 'info', base: null }, { write: (line: string) => lines.push(line) });
  const root = join(dir, 'logged');
  const running = await startRegistry({ ...defaultConfig(), root, listen: ['127.0.0.1:0'], rights: ANYBODY }, log);
  const url = `http://${running.addresses[0]}`;
  await pushBlob(url, 'logged', 'abc', { authorization: 'Basic c2VjcmV0OnNlY3JldA==', 'user-agent': 'test/1' });
  await (await fetch(`${url}/v2/logged/manifests/absent`)).text();
  await running.close(0);
  const requests = lines
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter(({ msg }) => msg === 'request');
  expect(requests).toMatchObject([
    { method: 'POST', status: 201, received: 3, remote: '127.0.0.1', agent: 'test/1' },
    { method: 'GET', url: '/v2/logged/manifests/absent', status: 404, code: 'MANIFEST_UNKNOWN' },
  ]);
  expect(lines.join('')).not.toMatch(/c2VjcmV0/);
});

it('a root is served once at a time, and a port that is taken is named', async () => {
  await using served = await serveRegistry();
  await expect(serveRegistry({ root: served.root })).rejects.toThrow(/already served by another caisson registry/);
  const taken = new URL(served.url).host;
  await expect(serveRegistry({ listen: [taken] })).rejects.toThrow(new RegExp(`cannot listen on ${taken}`));
});

describe('settings', () => {
  const file = (content: object): string => {
    const path = join(dir, 'config.json');
    writeFileSync(path, JSON.stringify(content));
    return path;
  };

  it('come from flags and file together', () => {
    const config = loadRegistryConfig([
      '--config',
      file({
        htpasswd: '/etc/users',
        delete: true,
        rights: [{ users: ['ci'], repositories: 'ci/**', actions: ['pull', 'push'] }],
        retention: [{ repositories: ['ci/**'], keepTags: 5, untaggedTtl: '12h' }],
      }),
      '--root=/srv/registry',
      '--upstream=docker.io',
      '--upstream=ghcr.io=https://mirror.example',
      '--keep-tags=50',
      '--anonymous-pull',
      '--access-log=false',
    ]);
    expect(config).toMatchObject({
      root: '/srv/registry',
      allowDelete: true,
      accessLog: false,
      upstreams: [
        { host: 'docker.io', url: undefined },
        { host: 'ghcr.io', url: 'https://mirror.example' },
      ],
      retention: [
        { repositories: ['ci/**'], keepTags: 5, untaggedTtlMs: 43_200_000 },
        { repositories: ['**'], keepTags: 50 },
      ],
    });
    expect(config.rights).toEqual([
      { users: ['anonymous'], repositories: ['**'], actions: ['pull'] },
      { users: ['ci'], repositories: ['ci/**'], actions: ['pull', 'push'] },
    ]);
  });

  it('users without rules may everything, and without users everybody', () => {
    expect(loadRegistryConfig(['--htpasswd=/u']).rights).toMatchObject([{ users: ['*'] }]);
    expect(loadRegistryConfig(['--htpasswd=/u', '--anonymous-pull']).rights).toMatchObject([
      { users: ['anonymous'], actions: ['pull'] },
      { users: ['*'] },
    ]);
    expect(loadRegistryConfig([]).rights).toEqual(ANYBODY);
  });

  it.each<[string[], RegExp]>([
    [['--bogus'], /bogus/],
    [['serve'], /serve/],
    [['--root=relative'], /absolute/],
    [['--listen=5000'], /address:port/],
    [['--tls-cert=/c'], /tls-cert and tls-key go together/],
    [['--tokens'], /tokens need users/],
    [['--token-realm=https://a', '--token-keys='], /absolute/],
    [['--anonymous-pull'], /rights need users/],
    [['--upload-ttl=5'], /a time such as/],
    [['--upstream=docker.io=ftp://x'], /http or https URL/],
    [['--upstream=Bad Host'], /invalid upstream/],
    [['--log-level=loud'], /log-level/],
    [['--keep-tags=-1'], /keep-tags/],
  ])('%j is refused', (argv, message) => expect(() => loadRegistryConfig(argv)).toThrow(message));

  it.each<[object, RegExp]>([
    [{ bogus: 1 }, /unknown key "bogus"/],
    [{ delete: 'yes' }, /delete is not true or false/],
    [{ listen: 'x' }, /listen is not a list/],
    [
      { rights: [{ users: ['a'], repositories: ['b'], actions: ['admin'] }], htpasswd: '/u' },
      /"admin" is none of pull, push, delete/,
    ],
    [{ rights: [{ user: 'a' }], htpasswd: '/u' }, /unknown key "user"/],
    [{ retention: [{ repositories: ['b'], keep: 1 }] }, /unknown key "keep"/],
    [{ root: '/a' }, /given both/],
  ])('%j in a file is refused', (content, message) => {
    expect(() => loadRegistryConfig(['--config', file(content), '--root', '/b'])).toThrow(message);
  });
});
