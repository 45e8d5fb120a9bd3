/** `--signature-policy`: a daemon that pulls only what is signed. Which signatures count: image-signatures.spec.ts. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { type BuiltImage, buildImage, busyboxTar, ociArchive, pushImage } from '../helpers/image.ts';
import { oracle } from '../helpers/oracle.ts';
import { missing } from '../helpers/requires.ts';
import { type ServedRegistry, serveRegistry } from '../helpers/servedRegistry.ts';
import { cosignLayer, newSigner, tagSignatures } from '../helpers/signing.ts';

describe.skipIf(missing('root', 'build', 'docker', 'busybox'))('a signature policy', () => {
  const signer = newSigner();
  let daemon: TestDaemon;
  let registry: ServedRegistry;
  let host: string;
  let image: BuiltImage;
  let policy: string;

  const allow = (requirement: object): void => {
    const docker = { [host]: [requirement] };
    writeFileSync(policy, JSON.stringify({ default: [{ type: 'reject' }], transports: { docker } }));
  };

  beforeAll(async () => {
    registry = await serveRegistry();
    host = new URL(registry.url).host;
    image = buildImage([await busyboxTar()]);
    for (const name of ['signed', 'unsigned']) await pushImage(registry.url, name, '1', image);
    const { manifestDigest } = image;
    await tagSignatures(registry.url, 'signed', manifestDigest, [
      cosignLayer(signer, manifestDigest, `${host}/signed:1`),
    ]);
    daemon = new TestDaemon();
    policy = join(daemon.dir, 'policy.json');
    const keyPath = join(daemon.dir, 'signer.pub');
    writeFileSync(keyPath, signer.publicKey);
    allow({ type: 'sigstoreSigned', keyPath });
    await daemon.start({}, ['--signature-policy', policy]);
  });
  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
    await registry[Symbol.asyncDispose]();
  });

  it('lets what is signed come, by each way, and nothing else', async () => {
    await daemon.dockerOk('pull', '-q', `${host}/signed:1`);
    expect(await daemon.dockerOk('pull', '-q', `${host}/signed@${image.manifestDigest}`)).toContain(
      image.manifestDigest,
    );
    for (const args of [
      ['pull', `${host}/unsigned:1`],
      ['pull', '-a', `${host}/unsigned`],
      ['run', '--rm', `${host}/unsigned:1`],
    ]) {
      const refused = await daemon.docker(args);
      expect(refused.code).not.toBe(0);
      expect(refused.stderr).toContain(
        `${host}/unsigned:1 may not be pulled (${policy}, scope "${host}"): it has no signature`,
      );
    }
    const { stderr } = await daemon.docker(['pull', 'busybox']);
    expect(stderr).toContain(
      `docker.io/library/busybox:latest may not be pulled (${policy}, default): the policy rejects it`,
    );
    expect((await daemon.dockerOk('images', '--format', '{{.Repository}}')).split('\n')).not.toContain(
      `${host}/unsigned`,
    );
  });

  it('is read anew for each pull, and asks nothing of a load', async () => {
    allow({ type: 'insecureAcceptAnything' });
    await daemon.dockerOk('pull', '-q', `${host}/unsigned:1`);
    writeFileSync(policy, '{}');
    expect((await daemon.docker(['pull', `${host}/signed:1`])).stderr).toContain(
      `signature policy ${policy}: "default"`,
    );
    const loaded = await daemon.docker(['load'], { input: await ociArchive(image, `${host}/loaded:1`) });
    expect(loaded).toMatchObject({ code: 0 });
    expect(await oracle(daemon)).toEqual([]);
  });

  it('that is wrong keeps the daemon from starting', async () => {
    writeFileSync(policy, '{}');
    const validated = await daemon.caisson(['daemon', '--validate', '--signature-policy', policy]);
    expect(validated).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(`signature policy ${policy}: "default"`),
    });
  });
});
