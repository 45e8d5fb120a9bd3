/** Who may ask the daemon for what: TLS with client certificates, and authorization plugins. */
import { once } from 'node:events';
import { cpSync, mkdirSync, readFileSync } from 'node:fs';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestAuthority } from '../helpers/certificates.ts';
import { run, TestDaemon } from '../helpers/daemon.ts';
import { oracle } from '../helpers/oracle.ts';
import { TestPlugin } from '../helpers/plugin.ts';
import { missing } from '../helpers/requires.ts';

interface Shown {
  User?: string;
  UserAuthNMethod?: string;
  RequestMethod: string;
  RequestUri: string;
  RequestBody?: string;
  RequestHeaders: Record<string, string>;
  ResponseStatusCode?: number;
  ResponseBody?: string;
}

/** A plugin that answers with what `judge` says, and keeps what it was shown. */
class AuthorizationPlugin extends TestPlugin {
  readonly shown: { method: string; about: Shown }[] = [];
  judge: (method: string, about: Shown) => object = () => ({ Allow: true });

  constructor() {
    super('authz', (method, body) => {
      const about = body as Shown;
      this.shown.push({ method, about });
      return this.judge(method, about);
    });
  }
}

async function freePort(): Promise<number> {
  const server = createTcpServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

describe.skipIf(missing('root', 'build', 'docker', 'busybox', 'openssl'))('access to the daemon', () => {
  const plugin = new AuthorizationPlugin();
  let daemon: TestDaemon;
  let host = '';
  let flags: string[] = [];

  beforeAll(async () => {
    await plugin.start();
    daemon = new TestDaemon();
    const authority = new TestAuthority(join(daemon.dir, 'ca'));
    const server = authority.issue('localhost');
    const client = authority.issue('tester');
    for (const name of ['client', 'stranger']) {
      mkdirSync(join(daemon.dir, name));
      cpSync(authority.certificate, join(daemon.dir, name, 'ca.pem'));
    }
    cpSync(client.certificate, join(daemon.dir, 'client/cert.pem'));
    cpSync(client.key, join(daemon.dir, 'client/key.pem'));
    host = `tcp://localhost:${await freePort()}`;
    const files = ['--tlscacert', authority.certificate, '--tlscert', server.certificate, '--tlskey', server.key];
    flags = ['-H', host, '--tlsverify', ...files, '--authorization-plugin', plugin.name];
    await daemon.start({}, flags);
    await daemon.loadBusybox();
  });
  afterAll(async () => {
    await daemon.removeContainers();
    expect(await oracle(daemon)).toEqual([]);
    await daemon[Symbol.asyncDispose]();
    plugin.stop();
  });

  const secure = (who: string, args: string[], input = '') =>
    run('docker', args, {
      env: { ...process.env, DOCKER_HOST: host, DOCKER_TLS_VERIFY: '1', DOCKER_CERT_PATH: join(daemon.dir, who) },
      input,
    });

  it('TLS carries whole streams both ways, for clients with a certificate', async () => {
    const echoed = await secure('client', ['run', '-i', '--rm', 'busybox', 'sh', '-c', 'cat; echo err >&2'], 'typed');
    expect(echoed).toMatchObject({ stdout: 'typed', stderr: 'err\n', code: 0 });
    const much = await secure('client', ['run', '--rm', 'busybox', 'sh', '-c', 'seq 1 300000']);
    expect(much.stdout.length).toBe(1_988_895);
    expect(plugin.shown.at(-1)?.about).toMatchObject({ User: 'tester', UserAuthNMethod: 'TLS' });
    const stranger = await secure('stranger', ['version']);
    expect(stranger.stderr).toMatch(/certificate required/);
  });

  it('a plugin sees requests and answers, but no credentials', async () => {
    plugin.shown.length = 0;
    const created = await daemon.http(
      'POST',
      '/v1.51/containers/create',
      { Image: 'busybox', Cmd: ['true'] },
      {
        'X-Registry-Auth': 'secret',
        Authorization: 'secret',
      },
    );
    expect(created.status).toBe(201);
    const [asked, answered] = plugin.shown;
    expect(asked).toMatchObject({
      method: 'AuthZPlugin.AuthZReq',
      about: { RequestMethod: 'POST', RequestUri: '/v1.51/containers/create' },
    });
    expect(JSON.stringify(plugin.shown)).not.toContain('secret');
    const text = (base64: string | undefined): unknown => JSON.parse(Buffer.from(base64 ?? '', 'base64').toString());
    expect(text(asked?.about.RequestBody)).toEqual({ Image: 'busybox', Cmd: ['true'] });
    expect(answered).toMatchObject({ method: 'AuthZPlugin.AuthZRes', about: { ResponseStatusCode: 201 } });
    expect(text(answered?.about.ResponseBody)).toEqual(JSON.parse(created.body));
    await daemon.http('POST', '/auth', { username: 'u', password: 'pass' });
    expect(plugin.shown.filter(({ about }) => about.RequestUri === '/auth' && about.RequestBody)).toEqual([]);
  });

  it.each([
    ['AuthZPlugin.AuthZReq', { Allow: false, Msg: 'not you' }, 403, 'authorization denied by plugin NAME: not you'],
    ['AuthZPlugin.AuthZRes', { Allow: false, Msg: 'not that' }, 403, 'authorization denied by plugin NAME: not that'],
    ['AuthZPlugin.AuthZReq', { Err: 'broken' }, 500, 'plugin NAME failed with error: AuthZPlugin.AuthZReq: broken'],
    ['AuthZPlugin.AuthZRes', { Err: 'broken' }, 500, 'plugin NAME failed with error: AuthZPlugin.AuthZRes: broken'],
  ])('what %s answers with %j is refused', async (method, verdict, status, message) => {
    plugin.judge = (asked) => (asked === method ? verdict : { Allow: true });
    for (const path of ['/version', '/_ping', '/events?since=1&until=2', '/nothing']) {
      const answer = await daemon.http('GET', path);
      expect([path, answer.status]).toEqual([path, status]);
      expect((JSON.parse(answer.body) as { message: string }).message).toBe(message.replace('NAME', plugin.name));
    }
    plugin.judge = () => ({ Allow: true });
    expect((await daemon.http('GET', '/version')).status).toBe(200);
  });

  it('a client behind TLS that stays connected without asking does not hold up the end of the daemon', async () => {
    const [ca, cert, key] = ['ca', 'cert', 'key'].map((name) => readFileSync(join(daemon.dir, `client/${name}.pem`)));
    const { port } = new URL(host.replace('tcp:', 'https:'));
    const client = connect({ port: Number(port), ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) });
    client.write('HEAD /_ping HTTP/1.1\r\nHost: localhost\r\n\r\n');
    expect(String(await once(client, 'data'))).toMatch(/^HTTP\/1.1 200 /);
    const ended = once(client, 'close');
    await daemon.kill('SIGTERM');
    await ended;
    await daemon.start({}, flags);
  });

  it('a daemon whose plugin is not there does not start', async () => {
    await using other = new TestDaemon(['--authorization-plugin', 'caisson-nobody']);
    await expect(other.start()).rejects.toThrow('plugin "caisson-nobody" not found');
  });
});
