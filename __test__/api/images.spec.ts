/** Images of a real daemon, by the real docker client, from a real registry. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { type BuiltImage, buildImage, busyboxTar, pushImage, sha256 } from '../helpers/image.ts';
import { startRegistry, type TestRegistry } from '../helpers/registry.ts';
import { missing } from '../helpers/requires.ts';
import { OCI_MANIFEST, ScriptedRegistry } from '../helpers/scriptedRegistry.ts';

interface Inspected {
  Id: string;
  RepoTags: string[];
  RepoDigests: string[];
  Size: number;
  RootFS: { Layers: string[] };
  Config: { Cmd: string[] | null };
}

describe.skipIf(missing('root', 'build', 'docker', 'registry', 'busybox'))('images', () => {
  let registry: TestRegistry;
  let daemon: TestDaemon;
  let one: BuiltImage;
  let two: BuiltImage;

  beforeAll(async () => {
    registry = await startRegistry();
    daemon = await new TestDaemon().start();
    const base = await busyboxTar();
    const top = await busyboxTar({ 'etc/motd': 'two' });
    one = buildImage([base], { Cmd: ['sh'] });
    two = buildImage([base, top], { Cmd: ['sh'], Labels: { kind: 'two' } });
    await pushImage(registry.url, 'test/one', 'latest', one);
    await pushImage(registry.url, 'test/two', 'latest', two);
  });

  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
    await registry[Symbol.asyncDispose]();
  });

  const name = (repository: string): string => `${registry.host}/test/${repository}:latest`;
  const json = async <T>(path: string): Promise<T> => JSON.parse((await daemon.http('GET', path)).body) as T;
  const layerDirectories = (): string[] => readdirSync(join(daemon.dataRoot, 'overlay'));
  const removeAll = async (): Promise<void> => {
    for (const { Id } of await json<{ Id: string }[]>('/images/json'))
      await daemon.http('DELETE', `/images/${Id}?force=1`);
    expect(layerDirectories()).toEqual([]);
  };

  describe('pull', () => {
    it('tells its progress, sets tag and digest, and leaves an image that inspect shows', async () => {
      const pulled = await daemon.dockerOk('pull', name('one'));
      expect(pulled).toContain('Pulling from test/one');
      expect(pulled).toContain('Pull complete');
      expect(pulled).toContain(`Digest: ${one.manifestDigest}`);
      expect(pulled).toContain(`Status: Downloaded newer image for ${name('one')}`);
      const image = await json<Inspected>(`/images/${name('one')}/json`);
      expect(image).toMatchObject({
        Id: one.configDigest,
        RepoTags: [name('one')],
        RepoDigests: [`${registry.host}/test/one@${one.manifestDigest}`],
        Config: { Cmd: ['sh'] },
      });
      expect(await daemon.dockerOk('pull', name('one'))).toContain(`Image is up to date for ${name('one')}`);
    });

    it('does not fetch a layer that is there', async () => {
      const pulled = await daemon.dockerOk('pull', name('two'));
      expect(pulled.match(/Already exists/g)).toHaveLength(1);
      expect(pulled.match(/Pull complete/g)).toHaveLength(1);
      expect(layerDirectories()).toHaveLength(2);
      await removeAll();
    });

    it('shares layers with a pull under way', async () => {
      const results = await Promise.all(
        [name('one'), name('two'), name('one')].map((ref) => daemon.dockerOk('pull', '-q', ref)),
      );
      expect(results).toEqual([name('one'), name('two'), name('one')]);
      expect(layerDirectories()).toHaveLength(2);
      await removeAll();
    });

    it('takes a digest', async () => {
      const byDigest = `${registry.host}/test/one@${one.manifestDigest}`;
      await daemon.dockerOk('pull', byDigest);
      const image = await json<Inspected>(`/images/${byDigest}/json`);
      expect([image.RepoTags, image.RepoDigests]).toEqual([[], [byDigest]]);
      await removeAll();
    });

    it.each([
      ['an unknown tag', 'one:nope', 'manifest unknown'],
      ['an unknown repository', 'nope:latest', 'not found'],
      ['a name in capitals', 'One:latest', 'must be lowercase'],
    ])('fails for %s', async (_name, reference, expected) => {
      const result = await daemon.docker(['pull', `${registry.host}/test/${reference}`]);
      expect(result.code).toBe(1);
      expect(result.stderr).toContain(expected);
    });

    it('leaves nothing of an image with a damaged layer', async () => {
      const tar = await busyboxTar({ 'etc/motd': 'damaged' });
      // The registry cannot hold wrong bytes under a digest, but a config may claim another content.
      const wrong = buildImage([tar]);
      const config = JSON.parse(wrong.blobs.get(wrong.configDigest)?.toString() ?? '') as {
        rootfs: { diff_ids: string[] };
      };
      config.rootfs.diff_ids = [`sha256:${'0'.repeat(64)}`];
      const liar = withConfig(wrong, Buffer.from(JSON.stringify(config)));
      await pushImage(registry.url, 'test/liar', 'latest', liar);
      const result = await daemon.docker(['pull', name('liar')]);
      expect(result.code).toBe(1);
      expect(result.stderr).toContain('0000000000');
      expect(await json('/images/json')).toEqual([]);
      expect(layerDirectories()).toEqual([]);
    });

    describe('from a registry that is watched', () => {
      let watched: ScriptedRegistry;
      beforeAll(async () => {
        watched = await new ScriptedRegistry().listen();
        for (const [digest, data] of two.blobs) watched.blobs.set(digest, data);
        watched.addManifest(two.manifest.toString(), OCI_MANIFEST, 'latest');
      });
      afterAll(async () => {
        await watched[Symbol.asyncDispose]();
      });
      const layerPaths = (): string[] => watched.asked(/blobs/).map((seen) => seen.path.split('/').at(-1) ?? '');

      it('fetches each layer once for pulls at the same time', async () => {
        const reference = `${watched.host}/app:latest`;
        await Promise.all([1, 2, 3].map(() => daemon.dockerOk('pull', '-q', reference)));
        const layers = layerPaths().filter((digest) => digest !== two.configDigest);
        expect(layers.sort()).toEqual([...two.blobs.keys()].filter((digest) => digest !== two.configDigest).sort());
        await removeAll();
      });

      it('stops and leaves nothing when the client goes', async () => {
        watched.seen.length = 0;
        const begun = Promise.withResolvers<void>();
        // Half of a layer comes, and then nothing more.
        watched.fault = (request, response) => {
          const data = watched.blobs.get(request.url?.split('/').at(-1) ?? '');
          if (data === undefined || request.url?.endsWith(two.configDigest)) return false;
          response.writeHead(200, { 'content-length': data.length });
          response.write(data.subarray(0, data.length / 2));
          begun.resolve();
          return true;
        };
        const client = spawn('docker', ['pull', `${watched.host}/app:latest`], {
          env: { ...process.env, DOCKER_HOST: `unix://${daemon.socket}` },
          stdio: 'ignore',
        });
        await begun.promise;
        expect(layerDirectories().length).toBeGreaterThan(0);
        const ended = once(client, 'exit');
        client.kill('SIGKILL');
        await ended;
        while (layerDirectories().length > 0) await new Promise((resolve) => setImmediate(resolve));
        expect(await json('/images/json')).toEqual([]);
        watched.fault = () => false;
        await daemon.dockerOk('pull', '-q', `${watched.host}/app:latest`);
        await removeAll();
      });
    });

    it('leaves nothing when the daemon is killed before the image is written', async () => {
      await daemon.kill();
      await daemon.start({ CAISSON_CRASH_AT: 'pull.layers:after' });
      const result = await daemon.docker(['pull', name('two')]);
      expect(result.code).toBe(1);
      await daemon.ended();
      await daemon.start();
      expect(await json('/images/json')).toEqual([]);
      expect(layerDirectories()).toEqual([]);
      await daemon.dockerOk('pull', '-q', name('two'));
      await removeAll();
    });
  });

  it('imports a root filesystem with changes', async () => {
    const id = await daemon.docker(
      ['import', '-c', 'CMD ["sh","-x"]', '-c', 'ENV A=b', '-m', 'hello', '-', 'test/imported:1'],
      {
        input: await busyboxTar(),
      },
    );
    expect(id.code).toBe(0);
    const image = await json<Inspected & { Comment: string }>('/images/test/imported:1/json');
    expect(image).toMatchObject({
      Id: id.stdout.trim(),
      Comment: 'hello',
      Config: { Cmd: ['sh', '-x'], Env: ['A=b'] },
    });
    await removeAll();
  });

  it('imports what a URL gives, and says why one gives nothing', async () => {
    const archive = await busyboxTar();
    await using server = await new ScriptedRegistry().listen();
    server.fault = (request, response) => {
      if (request.url !== '/root.tar') return false;
      response.writeHead(200, { 'content-length': archive.length }).end(archive);
      return true;
    };
    const imported = await daemon.docker(['import', `http://${server.host}/root.tar`, 'test/imported:2']);
    expect(imported).toMatchObject({ code: 0 });
    expect(imported.stdout).toContain(`Downloading from http://${server.host}/root.tar`);
    expect(await json<object>('/images/test/imported:2/json')).toMatchObject({
      Id: imported.stdout.trim().split('\n').at(-1),
      Comment: `Imported from http://${server.host}/root.tar`,
    });
    await removeAll();
    for (const [source, reason] of [
      [`http://${server.host}/absent`, `failed to GET http://${server.host}/absent with status 404 Not Found`],
      ['http://127.0.0.1:1/root.tar', 'dial tcp 127.0.0.1:1: connect: connection refused'],
      ['https://nosuchdomain.invalid/root.tar', 'dial tcp: '],
    ] as const) {
      const refused = await daemon.docker(['import', source]);
      expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining(reason)]);
    }
    // as dockerd: by 503 testcontainers would understand that it is to ask again and again
    const pulled = await daemon.http('POST', '/images/create?fromImage=127.0.0.1:1/x&tag=1');
    expect(pulled).toMatchObject({ status: 500, body: expect.stringContaining('connect: connection refused') });
    expect(layerDirectories()).toEqual([]);
  });

  describe('names', () => {
    beforeAll(async () => {
      await daemon.dockerOk('pull', '-q', name('one'));
      await daemon.dockerOk('pull', '-q', name('two'));
    });
    afterAll(removeAll);

    it('finds by reference, by id and by the beginning of an id', async () => {
      const hex = one.configDigest.slice(7);
      for (const key of [name('one'), one.configDigest, hex, hex.slice(0, 12)])
        expect((await json<Inspected>(`/images/${key}/json`)).Id).toBe(one.configDigest);
      const absent = await daemon.http('GET', '/images/nope/json');
      expect([absent.status, JSON.parse(absent.body)]).toEqual([
        404,
        { message: 'No such image: nope:latest', code: 'IMAGE_NOT_FOUND' },
      ]);
    });

    it('tags, and removes one name at a time; the last takes the image along', async () => {
      await daemon.dockerOk('tag', name('one'), 'a/b:c');
      await daemon.dockerOk('tag', name('one'), 'a/b:d');
      const conflict = await daemon.docker(['rmi', one.configDigest]);
      expect(conflict.stderr).toContain('(must be forced) - image is referenced in multiple repositories');
      expect(await daemon.dockerOk('rmi', 'a/b:c')).toBe('Untagged: a/b:c');
      expect(await daemon.dockerOk('rmi', 'a/b:d')).toBe('Untagged: a/b:d');
      const last = await daemon.dockerOk('rmi', name('one'));
      expect(last).toContain(`Untagged: ${registry.host}/test/one@${one.manifestDigest}`);
      expect(last).toContain(`Deleted: ${one.configDigest}`);
      // Its layer is one of the other image too.
      expect(layerDirectories()).toHaveLength(2);
    });

    it('lists by filters', async () => {
      const list = (filters: object): Promise<{ Id: string }[]> =>
        json(`/images/json?filters=${encodeURIComponent(JSON.stringify(filters))}`);
      expect(await list({ label: ['kind=two'] })).toHaveLength(1);
      expect(await list({ label: ['kind=one'] })).toHaveLength(0);
      expect(await list({ reference: [`${registry.host}/test/t*`] })).toHaveLength(1);
      expect(await list({ reference: ['other*'] })).toHaveLength(0);
      expect(await list({ dangling: ['true'] })).toHaveLength(0);
      expect((await daemon.http('GET', '/images/json?filters={"nope":["x"]}')).status).toBe(400);
    });

    it('shows the history, the newest step first', async () => {
      const steps = await json<{ Id: string; CreatedBy: string; Size: number }[]>(`/images/${name('two')}/history`);
      expect(steps.map(({ Id, CreatedBy }) => [Id, CreatedBy])).toEqual([
        [two.configDigest, 'layer 1'],
        ['<missing>', 'layer 0'],
      ]);
      expect(steps.every(({ Size }) => Size > 0)).toBe(true);
    });
  });

  it('tells what happened, in order', async () => {
    const since = Math.floor(Date.now() / 1000) - 3600;
    const events = await daemon.http(
      'GET',
      `/events?since=${since}&until=${Math.ceil(Date.now() / 1000)}&filters={"type":["image"]}`,
    );
    const actions = events.body
      .trim()
      .split('\r\n')
      .map((line) => (JSON.parse(line) as { Action: string }).Action);
    expect(new Set(actions)).toEqual(new Set(['pull', 'import', 'tag', 'untag', 'delete']));
    expect(actions[0]).toBe('pull');
  });
});

/** The same layers under another config. */
function withConfig(image: BuiltImage, config: Buffer): BuiltImage {
  const manifest = JSON.parse(image.manifest.toString()) as {
    config: { digest: string; size: number };
    layers: object[];
  };
  const blobs = new Map([...image.blobs].filter(([digest]) => digest !== image.configDigest));
  const digest = sha256(config);
  blobs.set(digest, config);
  manifest.config = { ...manifest.config, digest, size: config.length };
  const bytes = Buffer.from(JSON.stringify(manifest));
  return { blobs, manifest: bytes, manifestDigest: sha256(bytes), configDigest: digest };
}
