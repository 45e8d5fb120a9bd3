/**
 * The faults that users meet most: each is told in one line that names the path and the cause, with a line that says how
 * to mend it and a code that programs can rely on (`message`, `hint`, `code`, `path` of the answer).
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageRoot } from '../../ts/packageRoot.ts';
import { run, TestDaemon } from '../helpers/daemon.ts';
import { buildImage, busyboxTar, ociArchive } from '../helpers/image.ts';
import { oracle } from '../helpers/oracle.ts';
import { startRegistry, type TestRegistry } from '../helpers/registry.ts';
import { missing } from '../helpers/requires.ts';

const IMAGE = 'told.test/busybox:1';

interface Told {
  message: string;
  code: string;
  hint?: string;
  path?: string;
}

/** A 64-bit ELF for `machine` that asks for `loader`. */
function elf(machine: number, loader: string): Buffer {
  const head = Buffer.alloc(120 + loader.length + 1);
  head.write('\x7fELF\x02\x01\x01', 'latin1');
  head.writeUInt16LE(2, 16); // ET_EXEC
  head.writeUInt16LE(machine, 18);
  head.writeUInt32LE(1, 20);
  head.writeBigUInt64LE(64n, 32); // program headers
  head.writeUInt16LE(64, 52);
  head.writeUInt16LE(56, 54);
  head.writeUInt16LE(1, 56);
  head.writeUInt32LE(3, 64); // PT_INTERP
  head.writeUInt32LE(4, 68);
  head.writeBigUInt64LE(120n, 72);
  head.writeBigUInt64LE(BigInt(loader.length + 1), 96);
  head.writeBigUInt64LE(BigInt(loader.length + 1), 104);
  head.write(loader, 120);
  return head;
}

const NATIVE = process.arch === 'arm64' ? 183 : 62;
const FOREIGN = process.arch === 'arm64' ? 62 : 183;

/** What is run (files lie in /bad), and what is told. */
const STARTS: [fault: string, body: object, told: { message: RegExp; hint: RegExp; code: string; path?: string }][] = [
  [
    'no interpreter',
    { Cmd: ['/bad/script'] },
    {
      message: /exec \/bad\/script: no such file or directory: .*interpreter "\/bin\/nope" does not exist/,
      hint: /first line of \/bad\/script/,
      code: 'INTERPRETER_MISSING',
      path: '/bad/script',
    },
  ],
  [
    'CR LF',
    { Cmd: ['/bad/crlf'] },
    {
      message: /\/bad\/crlf ends in CR LF, so that its interpreter is "\/bin\/sh\\r"/,
      hint: /LF line ends/,
      code: 'SCRIPT_CRLF',
    },
  ],
  [
    'no loader',
    { Cmd: ['/bad/musl'] },
    {
      message: /needs the loader \/lib\/ld-musl-x\.so\.1, which the image does not have/,
      hint: /built for musl/,
      code: 'LOADER_MISSING',
    },
  ],
  [
    'wrong architecture',
    { Cmd: ['/bad/foreign'] },
    {
      message: /exec \/bad\/foreign: exec format error: the program is for (aarch64|x86-64)/,
      hint: /--platform linux\/(amd64|arm64)/,
      code: 'WRONG_ARCHITECTURE',
    },
  ],
  [
    'neither program nor script',
    { Cmd: ['/bad/text'] },
    {
      message: /exec format error: the file is neither a program nor a script/,
      hint: /#!\/bin\/sh/,
      code: 'NOT_A_PROGRAM',
    },
  ],
  [
    'no x bit',
    { Cmd: ['/bad/plain'] },
    { message: /"\/bad\/plain": permission denied/, hint: /chmod \+x \/bad\/plain/, code: 'PROGRAM_NOT_EXECUTABLE' },
  ],
  [
    'noexec',
    {
      Cmd: ['/bad/noexec/sh'],
    },
    {
      message: /"\/bad\/noexec\/sh": permission denied: .*mounted noexec/,
      hint: /without noexec/,
      code: 'NOEXEC_MOUNT',
    },
  ],
  [
    'a directory',
    { Cmd: ['/etc'] },
    { message: /"\/etc": is a directory/, hint: /--entrypoint/, code: 'PROGRAM_IS_DIRECTORY' },
  ],
  [
    'not in PATH',
    { Cmd: ['nope'] },
    {
      message: /"nope": executable file not found in \$PATH/,
      hint: /no nope in \/usr\/local/,
      code: 'PROGRAM_NOT_FOUND',
    },
  ],
  [
    'not there',
    { Cmd: ['/nope'] },
    {
      message: /"\/nope": stat \/nope: no such file or directory/,
      hint: /the image has no \/nope/,
      code: 'PROGRAM_NOT_FOUND',
    },
  ],
  [
    'a file on a directory',
    { Cmd: ['true'], HostConfig: { Binds: ['/etc/passwd:/etc'] } },
    {
      message: /\/etc\/passwd is a file and the mount point is a directory: not a directory/,
      hint: /mount \/etc\/passwd at a path/,
      code: 'MOUNT_TYPE_MISMATCH',
    },
  ],
  [
    'the working directory is a file',
    { Cmd: ['true'], WorkingDir: '/etc/passwd' },
    { message: /\/etc\/passwd.*not a directory/, hint: /./, code: 'WORKDIR_UNUSABLE' },
  ],
  [
    'unknown user',
    { Cmd: ['true'], User: 'nobody-here' },
    {
      message: /unable to find user nobody-here: no matching entries in passwd file/,
      hint: /--user 1000/,
      code: 'USER_NOT_FOUND',
    },
  ],
  [
    'unknown group',
    { Cmd: ['true'], User: '0:nope' },
    { message: /unable to find group nope/, hint: /etc\/group/, code: 'GROUP_NOT_FOUND' },
  ],
];

describe.skipIf(missing('root', 'build', 'docker', 'busybox', 'registry'))('faults', () => {
  const dir = mkdtempSync(join(tmpdir(), 'caisson-told-'));
  const bad = join(dir, 'bad');
  let daemon: TestDaemon;
  let registry: TestRegistry;

  beforeAll(async () => {
    registry = await startRegistry();
    daemon = await new TestDaemon().start();
    await daemon.docker(['load'], { input: await ociArchive(buildImage([await busyboxTar()]), IMAGE) });
    mkdirSync(bad);
    const files: Record<string, string | Buffer> = {
      script: '#!/bin/nope\n',
      crlf: '#!/bin/sh\r\necho x\r\n',
      musl: elf(NATIVE, '/lib/ld-musl-x.so.1'),
      foreign: elf(FOREIGN, '/lib/ld.so'),
      text: 'echo no first line\n',
      plain: '#!/bin/sh\n',
    };
    mkdirSync(join(bad, 'noexec'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'noexec,size=1m', 'caisson-test', join(bad, 'noexec')]);
    writeFileSync(join(bad, 'noexec/sh'), '#!/bin/sh\n', { mode: 0o755 });
    for (const [name, content] of Object.entries(files)) {
      writeFileSync(join(bad, name), content);
      chmodSync(join(bad, name), name === 'plain' ? 0o644 : 0o755);
    }
  });
  afterAll(async () => {
    execFileSync('umount', ['-l', join(bad, 'noexec')]);
    const leaked = await oracle(daemon);
    await daemon[Symbol.asyncDispose]();
    await registry[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true, force: true });
    expect(leaked).toEqual([]);
  });

  /** The answer of the step that fails: create or start. */
  async function told(body: { HostConfig?: { Binds?: string[]; [other: string]: unknown } }): Promise<Told> {
    const HostConfig = {
      NetworkMode: 'none',
      ...body.HostConfig,
      Binds: [`${bad}:/bad`, ...(body.HostConfig?.Binds ?? [])],
    };
    const created = await daemon.http('POST', '/containers/create', { Image: IMAGE, ...body, HostConfig });
    if (created.status !== 201) return JSON.parse(created.body) as Told;
    const { Id } = JSON.parse(created.body) as { Id: string };
    const started = await daemon.http('POST', `/containers/${Id}/start`);
    await daemon.http('DELETE', `/containers/${Id}?force=1&v=1`);
    return JSON.parse(started.body) as Told;
  }

  it.each(STARTS)('%s', async (_fault, body, { message, hint, code, path }) => {
    const answer = await told(body);
    expect(answer).toMatchObject({
      message: expect.stringMatching(message),
      hint: expect.stringMatching(hint),
      code,
      ...(path && { path }),
    });
    expect(answer.message).not.toContain('\n');
    expect(answer.hint).not.toContain('\n');
  });

  it('a port in use: by which process, or by which container', async () => {
    const server = createServer().listen(0, '0.0.0.0');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as { port: number };
    const publish = {
      Cmd: ['sleep', '1000'],
      HostConfig: { NetworkMode: 'bridge', PortBindings: { '80/tcp': [{ HostPort: String(port) }] } },
    };
    const byProcess = await told(publish);
    expect(byProcess).toMatchObject({ code: 'PORT_IN_USE', hint: expect.stringContaining(`(pid ${process.pid})`) });
    expect(byProcess.message).toContain(`:${port}`);
    server.close();
    await daemon.dockerOk('run', '-d', '--name', 'holds', '-p', `${port}:80`, IMAGE, 'sleep', '1000');
    expect(await told(publish)).toMatchObject({
      code: 'PORT_IN_USE',
      hint: expect.stringContaining(`Container holds publishes ${port}/tcp`),
    });
    await daemon.dockerOk('rm', '-f', 'holds');
  });

  it.each([
    ['size=12m', 'NO_SPACE', /no space on /],
    ['size=200m,nr_inodes=220', 'NO_INODES', /no inodes on /],
  ])('a data root with %s: %s', async (options, code, hint) => {
    const small = new TestDaemon();
    mkdirSync(small.dataRoot);
    execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'caisson-test', small.dataRoot]);
    try {
      await small.start();
      const files = Object.fromEntries(Array.from({ length: 400 }, (_, i) => [`opt/${i}`, 'x'.repeat(40_000)]));
      const archive = await ociArchive(buildImage([await busyboxTar(files)]), 'told.test/large:1');
      const { body } = await small.http('POST', '/images/load', archive, { 'content-type': 'application/x-tar' });
      const last = JSON.parse(body.trim().split('\n').at(-1) ?? '') as Partial<Told> & { error?: string };
      expect(last.error ?? last.message).toMatch(/no space left on device/i);
      expect(last).toMatchObject({ code, hint: expect.stringMatching(hint) });
    } finally {
      await small.kill('SIGTERM');
      execFileSync('umount', ['-l', small.dataRoot]);
      await small[Symbol.asyncDispose]();
    }
  });

  it('an image that is not there: what the registry said', async () => {
    const pull = async (name: string): Promise<Told> =>
      JSON.parse(
        (await daemon.http('POST', `/images/create?fromImage=${registry.host}/${name}&tag=nope`)).body,
      ) as Told;
    const answer = await pull('no/such');
    expect(answer).toMatchObject({ code: 'MANIFEST_UNKNOWN', hint: expect.stringContaining('no such tag') });
    expect(answer.message).toContain(`manifest for ${registry.host}/no/such:nope not found: manifest unknown`);
  });

  it('our command line shows the cause and the fix, and has docker’s exit code', async () => {
    const { code, stderr } = await daemon.caisson([
      'run',
      '--rm',
      '--network',
      'none',
      '-v',
      `${bad}:/bad`,
      IMAGE,
      '/bad/musl',
    ]);
    expect(code).toBe(127);
    expect(stderr).toMatch(/^caisson: Error response from daemon: .*needs the loader .*\nhint: it was built for musl/);
  });

  it('no access to the socket', async () => {
    const asUser = (address: string) =>
      run('setpriv', [
        '--reuid',
        '1000',
        '--regid',
        '1000',
        '--clear-groups',
        join(packageRoot, 'node_modules/node/bin/node'),
        join(packageRoot, 'dist/ts/cli/main.js'),
        '-H',
        address,
        'ps',
      ]);
    chmodSync(daemon.dir, 0o755);
    const { code, stderr } = await asUser(`unix://${daemon.socket}`);
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /permission denied while connecting to the caisson daemon at unix:.*\nhint: run as root, or as a member of the group/,
    );
  });
});
