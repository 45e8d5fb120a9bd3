/** `docker buildx history`: what is kept of builds that are over, on ours and on dockerd (helpers/subject.ts). */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BASE, Buildx } from '../helpers/buildx.ts';
import { missing } from '../helpers/requires.ts';
import { FOREIGN } from '../helpers/subject.ts';

interface Inspected {
  Ref: string;
  Status: string;
  NumTotalSteps: number;
  NumCompletedSteps: number;
  BuildArgs: { Name: string; Value: string }[];
  Materials: { URI: string; Digests: string[] }[];
  Error?: { Message: string; Sources: string };
}

describe.skipIf(missing('root', 'build', 'docker', 'buildx', 'compose'))('docker buildx history', () => {
  let buildx: Buildx;

  beforeAll(async () => {
    buildx = await Buildx.open();
  });

  afterAll(async () => {
    expect(await buildx.close()).toEqual([]);
  });

  /** Resolves with the name of the build's record. */
  const built = async (dockerfile: string, ...flags: string[]): Promise<string> => {
    const dir = buildx.context({ Dockerfile: dockerfile });
    const { code, stderr } = await buildx.build(dir, '--metadata-file', 'told.json', ...flags);
    expect(code, stderr).toBe(0);
    const told = JSON.parse(readFileSync(join(dir, 'told.json'), 'utf8')) as Record<string, string>;
    return told['buildx.build.ref']?.split('/').at(-1) ?? '';
  };
  const history = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await buildx.docker(buildx.subject.dir, ['buildx', 'history', ...args]);
    expect(code, stderr).toBe(0);
    return args[0] === 'logs' ? stderr : stdout;
  };
  const inspected = async (...ref: string[]): Promise<Inspected> =>
    JSON.parse(await history('inspect', '--format=json', ...ref)) as Inspected;
  const listed = async (): Promise<string[]> =>
    (await history('ls', '--format={{.Ref}} {{.Status}}'))
      .trim()
      .split('\n')
      .map((line) => line.replace(/^.*\//, ''));

  it('tells of a build: what was asked, what it was made of and all that it said', async () => {
    const ref = await built(`FROM ${BASE}\nARG WHAT\nRUN echo said $WHAT`, '--build-arg', 'WHAT=something');
    expect(await history('logs', ref)).toMatch(/\[2\/2\] RUN echo said something\n#\d+ \d\.\d+ said something\n/);
    const found = await inspected(ref);
    expect(found).toMatchObject({
      Ref: ref,
      Status: 'completed',
      BuildArgs: [{ Name: 'WHAT', Value: 'something' }],
    });
    expect(found.NumTotalSteps).toBeGreaterThanOrEqual(4);
    expect(found.NumCompletedSteps).toBe(found.NumTotalSteps);
    expect(found.Materials).toHaveLength(1);
    expect(found.Materials[0]?.URI).toMatch(/^pkg:docker\/buildkit\.test\/busybox@1\?platform=linux%2F/);
    expect(await listed()).toContain(`${ref} Completed`);
  });

  it('tells why a build failed, and where', async () => {
    const dir = buildx.context({ Dockerfile: `FROM ${BASE}\nRUN exit 7` });
    expect((await buildx.build(dir)).code).toBe(1);
    const { Ref: ref, Status: status, Error: error } = await inspected();
    expect(status).toBe('failed');
    expect(error?.Message).toContain('did not complete successfully: exit code: 7');
    expect(Buffer.from(error?.Sources ?? '', 'base64').toString()).toContain('>>> RUN exit 7');
    expect(await listed()).toContain(`${ref} Error`);
  });

  // dockerd 28.5.2 ends by a nil pointer when records are listed after one was removed
  it.skipIf(FOREIGN)('forgets what is removed', async () => {
    const [kept, removed] = [await built(`FROM ${BASE}`), await built(`FROM ${BASE}\nRUN true`)];
    await history('rm', removed);
    const left = (await listed()).join(' ');
    expect(left).toContain(kept);
    expect(left).not.toContain(removed);
  });

  it.skipIf(FOREIGN)('keeps records over the death of the daemon', async () => {
    const ref = await built(`FROM ${BASE}\nRUN echo kept`);
    await buildx.subject.daemon?.kill('SIGKILL');
    await buildx.subject.daemon?.start();
    expect(await history('logs', ref)).toContain('RUN echo kept');
    expect(await listed()).toContain(`${ref} Completed`);
  });
});
