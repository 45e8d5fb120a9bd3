/** Our own commands that bring images somewhere, and the logins that they use: each for its own registry and no other. */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { packageRoot } from '../../ts/packageRoot.ts';
import { type CommandResult, run, TestDaemon } from '../helpers/daemon.ts';
import { buildImage, busyboxTar, ociArchive } from '../helpers/image.ts';
import { startRegistry, type TestRegistry } from '../helpers/registry.ts';
import { missing } from '../helpers/requires.ts';
import { problem, ScriptedRegistry } from '../helpers/scriptedRegistry.ts';

/** `ann` with the password `secret`. */
const HTPASSWD = 'ann:$2b$04$v4I9IxvBv3rX4CKnPL/DFOPjSqrIFWUrRnBFSHd8YnCR2p.lq01xG\n';
const BASE = 'test.local/base:1';

describe.skipIf(missing('root', 'build', 'docker', 'registry', 'busybox'))('the caisson command', () => {
  let dir: string;
  let daemon: TestDaemon;
  let registry: TestRegistry;
  let other: ScriptedRegistry;

  const caisson = (args: string[], input: string | Buffer = ''): Promise<CommandResult> =>
    run(join(packageRoot, 'bin/caisson'), args, {
      input,
      env: {
        ...process.env,
        CAISSON_HOST: `unix://${daemon.socket}`,
        DOCKER_CONFIG: join(dir, 'config'),
        PATH: `${join(dir, 'bin')}:${process.env['PATH']}`,
      },
    });
  const ok = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await caisson(args);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    return stdout.trim();
  };
  const configure = (config: object): void => writeFileSync(join(dir, 'config/config.json'), JSON.stringify(config));
  const stored = (): { auths?: Record<string, { auth: string }>; [key: string]: unknown } =>
    JSON.parse(readFileSync(join(dir, 'config/config.json'), 'utf8'));
  const basic = (user: string, password: string): string => Buffer.from(`${user}:${password}`).toString('base64');

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'caisson-cli-'));
    mkdirSync(join(dir, 'config'));
    mkdirSync(join(dir, 'bin'));
    registry = await startRegistry({ htpasswd: HTPASSWD });
    other = await new ScriptedRegistry().listen();
    // Asks everyone for a password, as a registry does that wants to have one.
    other.fault = (_request, response) => {
      problem(response, 401, 'UNAUTHORIZED', 'who?', { 'www-authenticate': 'Basic realm="other"' });
      return true;
    };
    daemon = await new TestDaemon().start();
    const image = buildImage([await busyboxTar()], { Cmd: ['echo', 'hello'] });
    expect((await caisson(['load'], await ociArchive(image, BASE))).code).toBe(0);
  });
  afterEach(() => {
    other.seen.length = 0;
    configure({});
  });
  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
    await registry[Symbol.asyncDispose]();
    await other[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true, force: true });
  });

  /** What the other registry was given, if it was asked at all. */
  const leaked = (): unknown[] => other.seen.flatMap(({ headers }) => headers.authorization ?? []);

  it('commits, exports, saves and loads', async () => {
    await ok('run', '--name', 'made', '--network=none', BASE, 'sh', '-c', 'echo new > /new');
    expect(await ok('commit', '-c', 'CMD ["cat","/new"]', '-m', 'why', 'made', 'made:1')).toMatch(/^sha256:/);
    expect(await ok('run', '--rm', '--network=none', 'made:1')).toBe('new');
    await ok('export', '-o', join(dir, 'made.tar'), 'made');
    await ok('import', join(dir, 'made.tar'), 'imported:1');
    expect(await ok('run', '--rm', '--network=none', 'imported:1', 'cat', '/new')).toBe('new');
    await ok('save', '-o', join(dir, 'saved.tar'), 'made:1', 'imported:1');
    await ok('rmi', 'made:1', 'imported:1');
    expect(await ok('load', '-q', '-i', join(dir, 'saved.tar'))).toBe('Loaded image: made:1\nLoaded image: imported:1');
    await ok('rm', 'made');
  });

  it('leaves no file of a save that failed', async () => {
    const failed = await caisson(['save', '-o', join(dir, 'none.tar'), 'nope']);
    expect([failed.code, failed.stderr]).toEqual([1, 'caisson: No such image: nope:latest\n']);
    expect(() => statSync(join(dir, 'none.tar'))).toThrow('ENOENT');
  });

  it('logs in, pushes, pulls, and logs out', async () => {
    const name = `${registry.host}/team/tool:1`;
    await ok('tag', BASE, name);
    expect((await caisson(['push', name])).stderr).toMatch(/no basic auth credentials/);
    const wrong = await caisson(['login', '-u', 'ann', '--password-stdin', registry.host], 'wrong');
    expect([wrong.code, wrong.stderr]).toEqual([1, expect.stringContaining('401 Unauthorized')]);
    configure({ psFormat: 'kept', auths: { 'another.test': { auth: basic('bob', 'b') } } });
    const login = await caisson(['login', '-u', 'ann', '--password-stdin', registry.host], 'secret\n');
    expect([login.code, login.stdout]).toEqual([0, 'Login Succeeded\n']);
    expect(stored()).toEqual({
      psFormat: 'kept',
      auths: { 'another.test': { auth: basic('bob', 'b') }, [registry.host]: { auth: basic('ann', 'secret') } },
    });
    expect(statSync(join(dir, 'config/config.json')).mode & 0o777).toBe(0o600);
    expect(await ok('push', name)).toMatch(/1: digest: sha256:[0-9a-f]{64} size: \d+$/);
    await ok('rmi', name);
    await ok('pull', '-a', `${registry.host}/team/tool`);
    expect(await ok('logout', registry.host)).toBe(`Removing login credentials for ${registry.host}`);
    expect(Object.keys(stored().auths ?? {})).toEqual(['another.test']);
    expect((await caisson(['push', name])).stderr).toMatch(/no basic auth credentials/);
  });

  it.each([
    ['an entry of another host', () => ({ auths: { [registry.host]: { auth: basic('ann', 'secret') } } })],
    ['an entry of Docker Hub', () => ({ auths: { 'https://index.docker.io/v1/': { auth: basic('ann', 'secret') } } })],
    [
      'an entry whose name begins like the host',
      () => ({ auths: { [`${other.host}0`]: { auth: basic('ann', 'secret') } } }),
    ],
    ['a helper of another host', () => ({ credHelpers: { [registry.host]: 'test' } })],
  ])('sends no credential for %s (CVE-2021-41092)', async (_what, config) => {
    helper('echo \'{"Username":"ann","Secret":"secret"}\'');
    configure(config());
    expect((await caisson(['pull', `${other.host}/a/b:1`])).code).toBe(1);
    expect(other.seen.length).toBeGreaterThan(0);
    expect(leaked()).toEqual([]);
  });

  it('an absent helper is an error; nobody is asked', async () => {
    configure({ credsStore: 'absent', auths: { [other.host]: { auth: basic('ann', 'secret') } } });
    const failed = await caisson(['pull', `${other.host}/a/b:1`]);
    expect([failed.code, failed.stderr]).toEqual([1, expect.stringContaining('docker-credential-absent')]);
    expect(other.seen).toEqual([]);
  });

  it('asks a helper for the one host, and lets it keep and forget logins', async () => {
    // Keeps what it is given in a file named by the server, as the protocol says.
    helper(
      `store=${dir}/kept; case $1 in get) read s; cat "$store" 2>/dev/null || { echo "credentials not found in native keychain"; exit 1; } ;;`,
      `store) cat > "$store" ;; erase) rm -f "$store" ;; esac`,
    );
    configure({ credsStore: 'test' });
    const login = await caisson(['login', '-u', 'ann', '--password-stdin', registry.host], 'secret');
    expect(login).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(readFileSync(join(dir, 'kept'), 'utf8'))).toEqual({
      ServerURL: registry.host,
      Username: 'ann',
      Secret: 'secret',
    });
    expect(stored()).toEqual({ credsStore: 'test' });
    await ok('tag', BASE, `${registry.host}/team/helped:1`);
    await ok('push', '-q', `${registry.host}/team/helped:1`);
    await ok('logout', registry.host);
    expect((await caisson(['push', `${registry.host}/team/helped:1`])).stderr).toMatch(/no basic auth credentials/);
  });

  it('tells that it can search nowhere', async () => {
    const failed = await caisson(['search', `${other.host}/tool`]);
    expect([failed.code, failed.stderr]).toEqual([1, expect.stringContaining('who?')]);
    other.fault = (request, response) => {
      response.end(JSON.stringify({ results: [{ name: 'tool', description: request.url, star_count: 3 }, null] }));
      return true;
    };
    expect(
      JSON.parse(await ok('search', '--json', '--limit', '5', '--filter', 'stars=3', `${other.host}/tool`)),
    ).toEqual(expect.objectContaining({ Name: 'tool', Description: '/v1/search?q=tool&n=5' }));
    expect(await ok('search', '--format', '{{.Name}}', '--filter', 'stars=4', `${other.host}/tool`)).toBe('');
  });

  function helper(...lines: string[]): void {
    writeFileSync(join(dir, 'bin/docker-credential-test'), `#!/bin/sh\n${lines.join('\n')}\n`);
    chmodSync(join(dir, 'bin/docker-credential-test'), 0o755);
  }
});
