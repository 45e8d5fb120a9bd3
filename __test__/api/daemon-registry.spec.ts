/** `caisson daemon --registry`: a registry inside the daemon. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { packageRoot } from '../../ts/packageRoot.ts';
import { run, TestDaemon } from '../helpers/daemon.ts';
import { buildImage, busyboxTar, pushImage } from '../helpers/image.ts';
import { freePort } from '../helpers/registry.ts';
import { missing } from '../helpers/requires.ts';

describe.skipIf(missing('root', 'build', 'docker', 'busybox'))('the registry of a daemon', () => {
  it('takes pushes, serves pulls, and has all of it after the daemon was killed', async () => {
    const host = `127.0.0.1:${await freePort()}`;
    await using daemon = new TestDaemon(['--registry', host]);
    await daemon.start();
    const image = buildImage([await busyboxTar()]);
    await pushImage(`http://${host}`, 'mine/app', 'v1', image);
    await daemon.kill();
    await daemon.start();
    const pulled = await run('docker', ['-H', `unix://${daemon.socket}`, 'pull', `${host}/mine/app:v1`]);
    expect(pulled.stdout).toContain(`Digest: ${image.manifestDigest}`);
    expect(statSync(join(daemon.dataRoot, 'registry')).mode & 0o777).toBe(0o700);
    const gone = await fetch(`http://${host}/v2/mine/app/manifests/v1`, { method: 'DELETE' });
    expect(gone.status).toBe(202);
    await daemon.kill('SIGTERM');
    await expect(fetch(`http://${host}/v2/`)).rejects.toThrow();
  });

  it.each(['0.0.0.0:5000', '192.0.2.1:5000', 'example.com:5000'])('is not served on %s', async (address) => {
    const refused = await run(join(packageRoot, 'bin/caisson'), ['daemon', '--registry', address]);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/is not a port of a loopback address[\s\S]*caisson registry serve/);
  });
});
