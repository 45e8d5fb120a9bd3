/** `POST /build?version=2`: builds by BuildKit without its protocol, on ours and on dockerd (helpers/subject.ts). */
import { execFileSync } from 'node:child_process';
import { request } from 'node:http';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { BASE, Buildx } from '../helpers/buildx.ts';
import { missing } from '../helpers/requires.ts';

const WAIT = { timeout: 30_000, interval: 50 };

describe.skipIf(missing('root', 'build', 'docker', 'buildx', 'compose'))('POST /build?version=2', () => {
  let buildx: Buildx;

  beforeAll(async () => {
    buildx = await Buildx.open();
  });

  afterAll(async () => {
    expect(await buildx.close()).toEqual([]);
  });

  /** Resolves with the lines of the answer. `heard`: of all that the build has told so far. */
  const post = (path: string, body: Buffer, heard: (text: string) => void = () => undefined): Promise<string> =>
    new Promise((resolve, reject) => {
      const socketPath = (buildx.env['DOCKER_HOST'] ?? '').replace('unix://', '');
      const headers = { 'Content-Type': 'application/x-tar' };
      const call = request({ socketPath, method: 'POST', path: `/v1.47${path}`, headers }, (response) => {
        let said = '';
        response.setEncoding('utf8').on('data', (part: string) => {
          said += part;
          heard(traces(said.slice(0, said.lastIndexOf('\n') + 1)));
        });
        response.on('end', () => resolve(said));
      });
      call.on('error', reject).end(body);
    });

  const linesOf = (text: string): { id?: string; aux?: string & { ID: string }; error?: string }[] =>
    text
      .split('\n')
      .filter((line) => line.trim() !== '')
      .map((line) => JSON.parse(line));

  const traces = (text: string): string =>
    linesOf(text)
      .filter(({ id }) => id === 'moby.buildkit.trace')
      .map(({ aux = '' }) => Buffer.from(aux, 'base64').toString())
      .join('');

  const archiveOf = (dockerfile: string): Buffer =>
    execFileSync('tar', ['-c', '.'], { cwd: buildx.context({ Dockerfile: dockerfile }) });

  it('says what is told in lines', async () => {
    const query = new URLSearchParams({ version: '2', t: 'buildkit.test/http', buildargs: '{"A":"much"}' });
    const text = await post(`/build?${query}`, archiveOf(`FROM ${BASE}\nARG A\nRUN echo says $A`));
    expect(traces(text)).toMatch(/says much/);
    const id = linesOf(text).find((line) => line.id === 'moby.image.id')?.aux?.ID;
    expect(await buildx.subject.ok('image', 'inspect', '--format', '{{.Id}}', 'buildkit.test/http')).toBe(id);
  });

  it('can be cancelled', async () => {
    let said = '';
    const ended = post(
      '/build?version=2&buildid=cancelled',
      archiveOf(`FROM ${BASE}\nRUN echo begun; sleep 9999`),
      (text) => {
        said = text;
      },
    );
    await vi.waitFor(() => expect(said).toMatch(/begun\n/), WAIT);
    await post('/build/cancel?id=cancelled', Buffer.alloc(0));
    expect(linesOf(await ended).at(-1)?.error).toMatch(/cancel/i);
  });
});
