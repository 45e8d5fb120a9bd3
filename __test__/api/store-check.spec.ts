/** `caisson system check`: damage on the disk is found, named, and mended from where the image came from. */
import { appendFileSync, chmodSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { type BuiltImage, buildImage, busyboxTar, ociArchive, pushImage } from '../helpers/image.ts';
import { startRegistry, type TestRegistry } from '../helpers/registry.ts';
import { missing } from '../helpers/requires.ts';

describe.skipIf(missing('root', 'build', 'docker', 'registry', 'busybox')).each([
  { kept: 'no layer blobs', flags: [], blobs: 2 },
  { kept: 'layer blobs', flags: ['--keep-layer-blobs'], blobs: 3 },
])('system check where $kept are kept', ({ flags, blobs }) => {
  let daemon: TestDaemon;
  let registry: TestRegistry;
  let image: BuiltImage;
  let name: string;

  beforeAll(async () => {
    registry = await startRegistry();
    daemon = await new TestDaemon(flags).start();
    image = buildImage([await busyboxTar({ 'etc/motd': 'sound' })], { Cmd: ['cat', '/etc/motd'] });
    await pushImage(registry.url, 'test/checked', 'latest', image);
    name = `${registry.host}/test/checked:latest`;
  });
  beforeEach(async () => {
    await daemon.docker(['rmi', '-f', name]);
    await daemon.dockerOk('pull', '-q', name);
  });
  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
    await registry[Symbol.asyncDispose]();
  });

  const check = (...flags: string[]) => daemon.caisson(['system', 'check', ...flags]);
  const layer = (...path: string[]): string => {
    const overlay = join(daemon.dataRoot, 'overlay');
    const [id = ''] = readdirSync(overlay).filter((entry) => /^[0-9a-f]{32}$/.test(entry));
    return join(overlay, id, 'diff', ...path);
  };
  const blob = (digest: string): string => join(daemon.dataRoot, 'content/blobs', digest.replace(':', '/'));
  const layerDigest = (): string => [...image.blobs.keys()].find((digest) => digest !== image.configDigest) ?? '';
  const flip = (path: string): void => {
    const bytes = readFileSync(path);
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
    writeFileSync(path, bytes);
  };

  it('finds nothing where nothing is wrong', async () => {
    expect(await check()).toMatchObject({ code: 0, stdout: `${blobs} blobs and 1 layers checked: 0 problems\n` });
  });

  type Damage = [what: string, damage: () => void, found: () => string];
  const ofLayerBlobs: Damage[] = [
    ['a layer blob with a bit flipped', () => flip(blob(layerDigest())), () => `blob ${layerDigest()}`],
    ['a layer blob too long', () => appendFileSync(blob(layerDigest()), 'x'), () => 'bytes, not'],
    ['a layer blob that is gone', () => rmSync(blob(layerDigest())), () => 'cannot be read'],
  ];
  const ofRecipes: Damage[] = [
    ['a recipe that is gone', () => rmSync(layer('../recipe')), () => 'neither its blob nor what makes'],
  ];
  it.each<Damage>([
    ['a file with other bytes', () => flip(layer('etc/motd')), () => 'etc/motd'],
    ['a file that is gone', () => rmSync(layer('etc/motd')), () => 'etc'],
    ['a file too many', () => writeFileSync(layer('etc/evil'), ''), () => '/etc'],
    ['another mode', () => chmodSync(layer('etc/motd'), 0o777), () => '/etc/motd: its mode is 100777, not 100644'],
    ['a layer that is gone', () => renameSync(layer(), `${daemon.dataRoot}/gone`), () => 'directory cannot be read'],
    ...(flags.length > 0 ? ofLayerBlobs : ofRecipes),
    ['a damaged config', () => flip(blob(image.configDigest)), () => `blob ${image.configDigest}`],
    ['a damaged manifest', () => flip(blob(image.manifestDigest)), () => `blob ${image.manifestDigest}`],
  ])('finds and mends %s', async (_what, damage, found) => {
    damage();
    const before = await check();
    expect(before.code).toBe(1);
    expect(before.stdout).toContain(found());
    expect(before.stdout).toMatch(/: 1 problem\n$/);
    expect(before.stdout).toContain(name);
    const mended = await check('--repair');
    expect(mended).toMatchObject({ code: 0, stdout: expect.stringMatching(/: 1 problem, 1 repaired\n$/) });
    expect(await check()).toMatchObject({ code: 0, stdout: expect.stringMatching(/: 0 problems\n$/) });
    expect(await daemon.dockerOk('run', '--rm', name)).toBe('sound');
    rmSync(`${daemon.dataRoot}/gone`, { recursive: true, force: true });
  });

  it.each<[what: string, sql: string, found: RegExp, again: boolean]>([
    ['a layer', 'DELETE FROM layer', /image .*: its layer sha256:[0-9a-f]{64} is not in the store/, true],
    ['a layer of an image', 'DELETE FROM image_layer', /image .*: its rows name 0 layers, not the 1 of/, false],
    [
      'the digest of a layer',
      "UPDATE layer SET diff_id = 'sha256:0'",
      /the row of its layer .* has another layer below it, or another digest/,
      false,
    ],
    [
      'the manifest of an image',
      'DELETE FROM image_blob',
      /image .*: its manifest sha256:.* is not in the store/,
      true,
    ],
    [
      'the config of an image',
      "UPDATE image SET config = replace(config, 'linux', 'lunix')",
      /its config has the/,
      false,
    ],
    ['a blob', `DELETE FROM blob`, /image_blob: row without its blob/, true],
  ])('finds %s that its rows have lost, and mends it or says what does', async (_what, sql, found, again) => {
    // It holds the layer when the image does not.
    const container = await daemon.dockerOk('create', name);
    await daemon.kill();
    const db = new Database(join(daemon.dataRoot, 'graph.db'));
    db.pragma('foreign_keys = OFF');
    expect(db.prepare(sql).run().changes).toBeGreaterThan(0);
    db.close();
    await daemon.start();
    expect(await check()).toMatchObject({ code: 1, stdout: expect.stringMatching(found) });
    const mended = await check('--repair');
    expect(mended.code).toBe(again ? 1 : 0);
    if (again) expect(mended.stdout).toMatch(/pull or load it again|or pull anew/);
    if (again) await daemon.dockerOk('pull', '-q', name);
    expect(await check()).toMatchObject({ code: 0, stdout: expect.stringMatching(/: 0 problems\n$/) });
    expect(await daemon.dockerOk('run', '--rm', name)).toBe('sound');
    await daemon.dockerOk('rm', container);
  });

  it('leaves a layer to the container that runs on it', async () => {
    const id = (await daemon.dockerOk('run', '-d', name, 'sleep', '1000')).trim();
    flip(layer('etc/motd'));
    const refused = await check('--repair');
    expect(refused).toMatchObject({
      code: 1,
      stdout: expect.stringContaining(`container ${id.slice(0, 12)} runs on it`),
    });
    await daemon.dockerOk('kill', id);
    expect(await check('--repair')).toMatchObject({ code: 0 });
    await daemon.dockerOk('rm', id);
  });

  it('gives up a blob that is nowhere, so that the next load brings it', async () => {
    const local = buildImage([await busyboxTar({ 'etc/motd': 'loaded' })], { Cmd: ['cat', '/etc/motd'] });
    const archive = await ociArchive(local, 'test/local:1');
    expect(await daemon.docker(['load'], { input: archive })).toMatchObject({ code: 0 });
    const [digest = ''] = [...local.blobs.keys()].filter((one) => one !== local.configDigest);
    flip(blob(digest));
    expect(await check('--repair')).toMatchObject({ code: 1, stdout: expect.stringContaining('given up') });
    // Meanwhile the layer is compressed anew.
    await daemon.dockerOk('save', 'test/local:1');
    expect(await daemon.docker(['load'], { input: archive })).toMatchObject({ code: 0 });
    expect(await check()).toMatchObject({ code: 0 });
    await daemon.dockerOk('save', 'test/local:1');
    await daemon.dockerOk('rmi', 'test/local:1');
  });

  it('answers programs in lines of JSON', async () => {
    rmSync(layer('etc/motd'));
    const lines = (await check('--json')).stdout.trim().split('\n');
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
      { object: 'layer', id: expect.stringMatching(/^sha256:/), images: [name], problem: expect.any(String) },
      { checked: { blobs, layers: 1 }, problems: 1, repaired: 0 },
    ]);
  });
});
