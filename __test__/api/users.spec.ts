/** `--user` in all its spellings, against what dockerd 28.5.2 answers (users.json, written by scripts/oracle-users.ts). */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { buildImage, busyboxTar, ociArchive } from '../helpers/image.ts';
import { missing } from '../helpers/requires.ts';
import { type Answer, ask, FILES, SCRIPT, STRINGS } from '../helpers/userStrings.ts';

describe.skipIf(missing('root', 'build', 'docker', 'busybox'))('users', () => {
  it('are who they are with Docker, in a container and in an exec', async () => {
    await using daemon = await new TestDaemon().start();
    const archive = join(daemon.dir, 'image.tar');
    writeFileSync(archive, await ociArchive(buildImage([await busyboxTar(FILES)]), 'docker.io/library/users:latest'));
    await daemon.dockerOk('load', '-i', archive);
    const table = JSON.parse(readFileSync(join(import.meta.dirname, 'users.json'), 'utf8')) as Record<string, Answer>;
    expect(Object.keys(table).sort()).toEqual([...STRINGS].sort());
    // Docker also gives the group that is *named* 7, which is root's: here a number is never a name
    expect(table['user:7']).toEqual({ create: '1000 7 7 0 /home', exec: '1000 7 7 0 /home' });
    const own = { create: '1000 7 7 /home', exec: '1000 7 7 /home' };
    expect(await ask((args) => daemon.docker(args), 'users')).toEqual({ ...table, 'user:7': own });
    const plain = await daemon.dockerOk('run', '-d', 'users', 'sleep', '1000');
    expect(await daemon.docker(['exec', '--user=nosuch', plain, 'true'])).toMatchObject({
      code: 1,
      stderr: 'Error response from daemon: unable to find user nosuch: no matching entries in passwd file\n',
    });
    // names are those of the root, also where a mount hides its files; a home is what the program itself would find
    const etc = join(daemon.dir, 'etc');
    mkdirSync(etc);
    const options = ['--user=user:bin', '--group-add=extra', `--volume=${etc}:/etc`];
    const hidden = (
      await daemon.dockerOk('run', '-d', ...options, 'users', 'sh', '-c', `${SCRIPT}; sleep 1000`)
    ).trim();
    const exec = await daemon.dockerOk('exec', '--user=user:bin', hidden, 'sh', '-c', SCRIPT);
    expect([await daemon.dockerOk('logs', hidden), exec]).toEqual(['1000 1 1 2000 /', '1000 1 1 2000 /']);
  });
});
