/** Other people's clients on our registry, with logins at its own token server. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hashSync } from '@node-rs/bcrypt';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type CommandResult, run } from '../helpers/daemon.ts';
import { buildImage, busyboxTar, ociArchive } from '../helpers/image.ts';
import { missing, sidProgram } from '../helpers/requires.ts';
import { type ServedRegistry, serveRegistry } from '../helpers/servedRegistry.ts';

describe.skipIf(missing('root', 'busybox', 'skopeo', 'buildah'))('skopeo and buildah', () => {
  let dir: string;
  let served: ServedRegistry;
  let host: string;
  let digest: string;
  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'caisson-clients-'));
    writeFileSync(join(dir, 'users'), `alice:${hashSync('secret', 4)}\n`);
    served = await serveRegistry({
      htpasswd: join(dir, 'users'),
      rights: [{ users: ['alice'], repositories: ['team/**'], actions: ['pull', 'push', 'delete'] }],
      tokens: { keys: '', issuer: 'caisson', service: 'caisson-registry', realm: '', ttlS: 60 },
      allowDelete: true,
    });
    host = new URL(served.url).host;
    const image = buildImage([await busyboxTar()]);
    digest = image.manifestDigest;
    writeFileSync(join(dir, 'image.tar'), await ociArchive(image, 'x:v1'));
    writeFileSync(join(dir, 'auth.json'), '{}');
  });
  afterAll(async () => {
    await buildah('rm', '-a');
    await served[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true, force: true });
  });

  const authfile = (): string => join(dir, 'auth.json');
  async function ok(result: Promise<CommandResult>): Promise<string> {
    const { code, stdout, stderr } = await result;
    expect(code, stderr).toBe(0);
    return stdout;
  }
  const skopeo = (...args: string[]): Promise<CommandResult> => run('skopeo', args);
  const buildah = (...args: string[]): Promise<CommandResult> =>
    run('buildah', ['--root', join(dir, 'storage'), '--runroot', join(dir, 'run'), '--storage-driver', 'vfs', ...args]);
  const plain = (): string[] => ['--tls-verify=false', '--authfile', authfile()];
  const copy = (from: string, to: string): Promise<CommandResult> =>
    skopeo('copy', '--src-tls-verify=false', '--dest-tls-verify=false', '--authfile', authfile(), from, to);

  it('who has not logged in, or not well, gets nothing', async () => {
    const source = `oci-archive:${join(dir, 'image.tar')}`;
    expect((await copy(source, `docker://${host}/team/app:v1`)).code).not.toBe(0);
    const login = await skopeo('login', ...plain(), '-u', 'alice', '-p', 'wrong', host);
    expect([login.code !== 0, login.stderr]).toEqual([
      true,
      expect.stringMatching(/invalid username\/password|unauthorized/),
    ]);
  });

  it('copies in, across repositories and out, lists, builds upon, deletes', async () => {
    await ok(skopeo('login', ...plain(), '-u', 'alice', '-p', 'secret', host));
    await ok(copy(`oci-archive:${join(dir, 'image.tar')}`, `docker://${host}/team/app:v1`));
    const inspected = await ok(skopeo('inspect', ...plain(), `docker://${host}/team/app:v1`));
    expect((JSON.parse(inspected) as { Digest: string }).Digest).toBe(digest);
    await ok(copy(`docker://${host}/team/app:v1`, `docker://${host}/team/copy:v2`));
    expect((await copy(`docker://${host}/team/app:v1`, `docker://${host}/other/copy:v2`)).code).not.toBe(0);
    await ok(copy(`docker://${host}/team/copy:v2`, `dir:${join(dir, 'out')}`));

    const container = (await ok(buildah('from', ...plain(), `${host}/team/app:v1`))).trim();
    await ok(buildah('config', '--label', 'built=yes', container));
    await ok(buildah('commit', ...plain(), container, `docker://${host}/team/app:built`));
    const tags = JSON.parse(await ok(skopeo('list-tags', ...plain(), `docker://${host}/team/app`))) as {
      Tags: string[];
    };
    expect(tags.Tags).toEqual(['built', 'v1']);
    const built = await ok(skopeo('inspect', '--config', ...plain(), `docker://${host}/team/app:built`));
    expect((JSON.parse(built) as { config: { Labels: Record<string, string> } }).config.Labels['built']).toBe('yes');

    await ok(skopeo('delete', ...plain(), `docker://${host}/team/copy:v2`));
    expect((await skopeo('inspect', ...plain(), `docker://${host}/team/copy:v2`)).code).not.toBe(0);
  });
});

describe.skipIf(missing('root', 'busybox', 'crane', 'oras'))('crane and oras', () => {
  let dir: string;
  let served: ServedRegistry;
  let host: string;
  let digest: string;

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'caisson-clients-'));
    writeFileSync(join(dir, 'users'), `alice:${hashSync('secret', 4)}\n`);
    served = await serveRegistry({
      htpasswd: join(dir, 'users'),
      rights: [{ users: ['alice'], repositories: ['team/**'], actions: ['pull', 'push', 'delete'] }],
      tokens: { keys: '', issuer: 'caisson', service: 'caisson-registry', realm: '', ttlS: 60 },
      allowDelete: true,
    });
    host = new URL(served.url).host;
    const image = buildImage([await busyboxTar()]);
    digest = image.manifestDigest;
    mkdirSync(join(dir, 'layout'));
    await run('tar', ['-xf', '-', '-C', join(dir, 'layout')], { input: await ociArchive(image, 'x:v1') });
    const auth = Buffer.from('alice:secret').toString('base64');
    writeFileSync(join(dir, 'config.json'), JSON.stringify({ auths: { [host]: { auth } } }));
    writeFileSync(join(dir, 'note.txt'), 'signed');
  });
  afterAll(async () => {
    await served[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true, force: true });
  });

  const client = (program: string, args: string[]): Promise<CommandResult> =>
    run(sidProgram(program), args, { cwd: dir, env: { ...process.env, DOCKER_CONFIG: dir } });
  async function ok(program: string, ...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await client(program, args);
    expect([args, code, stderr]).toEqual([args, 0, expect.anything()]);
    return stdout.trim();
  }

  it('crane pushes, copies, lists, pulls, checks and deletes', async () => {
    await ok('crane', 'push', 'layout', `${host}/team/crane:v1`);
    expect(await ok('crane', 'digest', `${host}/team/crane:v1`)).toBe(digest);
    await ok('crane', 'copy', `${host}/team/crane:v1`, `${host}/team/copied:v2`);
    expect((await client('crane', ['copy', `${host}/team/crane:v1`, `${host}/other/copied:v2`])).code).not.toBe(0);
    await ok('crane', 'tag', `${host}/team/crane:v1`, 'again');
    expect((await ok('crane', 'ls', `${host}/team/crane`)).split('\n')).toEqual(['again', 'v1']);
    await ok('crane', 'validate', '--remote', `${host}/team/copied:v2`);
    await ok('crane', 'pull', '--format=oci', `${host}/team/copied:v2`, 'pulled');
    expect(readdirSync(join(dir, 'pulled/blobs/sha256'))).toContain(digest.slice(7));
    await ok('crane', 'delete', `${host}/team/copied@${digest}`);
    expect((await client('crane', ['digest', `${host}/team/copied:v2`])).stderr).toContain('MANIFEST_UNKNOWN');
    expect(await ok('crane', 'digest', `${host}/team/crane:again`)).toBe(digest);
  });

  it('oras pushes artifacts, attaches, discovers, copies, pulls and deletes', async () => {
    const name = `${host}/team/art`;
    await ok('oras', 'push', '--plain-http', `${name}:1`, 'note.txt:text/plain');
    await ok('oras', 'attach', '--plain-http', '--artifact-type', 'test/signature', `${name}:1`, 'note.txt');
    const referrers = JSON.parse(await ok('oras', 'discover', '--plain-http', '--format', 'json', `${name}:1`)) as {
      referrers?: { artifactType: string }[];
      manifests?: { artifactType: string }[];
    };
    const found = referrers.referrers ?? referrers.manifests ?? [];
    expect(found.map(({ artifactType }) => artifactType)).toEqual(['test/signature']);
    await ok('oras', 'copy', '-r', '--from-plain-http', '--to-plain-http', `${name}:1`, `${host}/team/art2:2`);
    await ok('oras', 'pull', '--plain-http', '-o', 'got', `${host}/team/art2:2`);
    expect(readFileSync(join(dir, 'got/note.txt'), 'utf8')).toBe('signed');
    expect(await ok('oras', 'repo', 'tags', '--plain-http', `${host}/team/art2`)).toBe('2');
    await ok('oras', 'manifest', 'delete', '--plain-http', '-f', `${host}/team/art2:2`);
    expect((await client('oras', ['pull', '--plain-http', `${host}/team/art2:2`])).code).not.toBe(0);
  });
});
