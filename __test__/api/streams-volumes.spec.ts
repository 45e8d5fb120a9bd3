/** Volumes shared between containers, parts of volumes, and attaching by websocket. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { oracle } from '../helpers/oracle.ts';
import { missing } from '../helpers/requires.ts';

const daemon = new TestDaemon();
const docker = (...args: string[]) => daemon.docker(args);
const ok = (...args: string[]): Promise<string> => daemon.dockerOk(...args);

/** A client's frame: masked, as the protocol wants it. */
function masked(opcode: number, text: string): Buffer {
  const mask = randomBytes(4);
  const data = Buffer.from(text).map((byte, at) => byte ^ (mask[at % 4] ?? 0));
  return Buffer.concat([Buffer.from([0x80 | opcode, 0x80 | data.length]), mask, data]);
}

function openWebsocket(path: string): Promise<{ socket: Socket; accept: string; head: Buffer }> {
  const key = Buffer.alloc(16, 7).toString('base64');
  const headers = {
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': key,
  };
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath: daemon.socket, path, headers });
    sent.on('error', reject);
    sent.on('response', (response) => reject(new Error(`answered ${response.statusCode}`)));
    sent.on('upgrade', (response, socket, head) => {
      resolve({ socket: socket as Socket, accept: String(response.headers['sec-websocket-accept']), head });
    });
    sent.end();
  });
}

/** All messages of the server, until it closes; short ones only. */
async function messages(socket: Socket, head: Buffer): Promise<{ text: string; opcodes: number[] }> {
  const chunks = [head];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  let bytes = Buffer.concat(chunks);
  const opcodes: number[] = [];
  let text = '';
  while (bytes.length >= 2) {
    const [first = 0, length = 0] = bytes;
    opcodes.push(first & 15);
    if ((first & 15) === 2) text += bytes.subarray(2, 2 + length).toString();
    bytes = bytes.subarray(2 + length);
  }
  return { text, opcodes };
}

describe.skipIf(missing('root', 'build', 'docker', 'busybox'))('shared volumes and streams', () => {
  beforeAll(async () => {
    await daemon.start();
    await daemon.loadBusybox();
  });
  afterAll(() => daemon[Symbol.asyncDispose]());
  afterEach(async () => {
    await daemon.removeContainers();
    expect(await oracle(daemon)).toEqual([]);
  });

  it('--volumes-from mounts what another container has, and keeps it alive', async () => {
    await ok(
      'run',
      '--name',
      'source',
      '-v',
      '/data',
      '-v',
      `${daemon.dir}:/host:ro`,
      'busybox',
      'sh',
      '-c',
      'echo kept > /data/file',
    );
    await ok('run', '-d', '--name', 'user', '--volumes-from', 'source:ro', 'busybox', 'sleep', '1000');
    await ok('rm', '-v', 'source');
    expect(await ok('exec', 'user', 'cat', '/data/file')).toBe('kept');
    expect((await docker('exec', 'user', 'touch', '/data/new')).stderr).toContain('Read-only file system');
    expect((await docker('exec', 'user', 'touch', '/host/new')).stderr).toContain('Read-only file system');
    await ok('rm', '-f', '-v', 'user');
    expect(await ok('volume', 'ls', '-q')).toBe('');
  });

  it('of two --volumes-from with the same place the last counts', async () => {
    for (const name of ['first', 'last']) await ok('run', '--name', name, '-v', `of-${name}:/data`, 'busybox', 'true');
    await ok('create', '--name', 'user', '--volumes-from', 'first', '--volumes-from', 'last', 'busybox');
    expect(await ok('inspect', '-f', '{{(index .Mounts 0).Name}}', 'user')).toBe('of-last');
    await ok('rm', 'user', 'first', 'last');
    await ok('volume', 'rm', 'of-first', 'of-last');
  });

  it('a container that would join its own network namespace does not start', async () => {
    const { stderr } = await docker('run', '--name', 'self', '--network', 'container:self', 'busybox', 'true');
    expect(stderr).toContain('cannot join own network namespace');
  });

  it.each([
    [['--volumes-from', 'nobody'], 'No such container: nobody'],
    [['--volumes-from', 'holder:foo'], 'invalid mode: foo'],
    [['--volume-driver', 'foo', '-v', 'new:/x'], 'plugin "foo" not found'],
    [['--storage-opt', 'size=1G'], "overlay over xfs with 'pquota'"],
    [['--mount', 'type=volume,src=v,dst=/x,volume-subpath=../up'], 'subpath must be a relative path'],
    [['-v', 'named:/x:shared'], 'invalid mount config for type "volume": field BindOptions must not be specified'],
    [['--network', 'host', '--link', 'holder:x'], "host type networking can't be used with links"],
    [['--network', 'container:holder', '--link', 'holder:x'], "container type network can't be used with links"],
    [['--network', 'container:holder', '-P'], 'port publishing and the container type network mode'],
    [['--network', 'container:holder', '--expose', '80'], 'port exposing and the container type network mode'],
    [['--network', 'container:'], 'invalid container format container:<name|id>'],
  ])('%j is refused', async (flags, message) => {
    await ok('create', '--name', 'holder', 'busybox', 'true');
    expect((await docker('create', '--pull', 'never', ...flags, 'busybox', 'true')).stderr).toContain(message);
  });

  it('a volume is told of when it is made, mounted, unmounted and removed', async () => {
    await ok('run', '--name', 'user', '-v', 'told:/x:ro', 'busybox', 'true');
    const container = await ok('inspect', '-f', '{{.Id}}', 'user');
    await ok('rm', 'user');
    await ok('volume', 'rm', 'told');
    const filters = encodeURIComponent(JSON.stringify({ volume: ['told'] }));
    const { body } = await daemon.http('GET', `/events?since=0&until=${Date.now() / 1000}&filters=${filters}`);
    const events = body
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { Action: string; Actor: { Attributes: object } });
    const driver = 'local';
    expect(events.map(({ Action, Actor }) => [Action, Actor.Attributes])).toEqual([
      ['create', { driver }],
      ['mount', { container, destination: '/x', driver, propagation: '', 'read/write': 'false' }],
      ['unmount', { container, driver }],
      ['destroy', { driver }],
    ]);
  });

  it('a part of a volume is looked up in it, whatever a container has put there', async () => {
    const fill = 'mkdir /v/part; echo inside > /v/part/file; ln -s / /v/up; ln -s part /v/along';
    await ok('run', '--rm', '-v', 'parted:/v', 'busybox', 'sh', '-c', fill);
    const show = (part: string, ...command: string[]) =>
      docker('run', '--rm', '--mount', `type=volume,src=parted,dst=/x,volume-subpath=${part}`, 'busybox', ...command);
    expect((await show('part', 'cat', '/x/file')).stdout).toBe('inside\n');
    expect((await show('along', 'cat', '/x/file')).stdout).toBe('inside\n');
    expect((await show('part/file', 'cat', '/x')).stdout).toBe('inside\n');
    for (const [part, why] of [
      ['up', 'path concatenation escapes the base directory'],
      ['up/etc', 'path concatenation escapes the base directory'],
      ['missing', 'cannot access path'],
    ] as const) {
      expect((await show(part, 'ls', '/x')).stderr, part).toContain(why);
    }
    // an image's files fill an empty part, and only that
    await ok('run', '--rm', '-v', 'parted:/v', 'busybox', 'mkdir', '/v/empty');
    const filled = 'type=volume,src=parted,dst=/etc,volume-subpath=empty';
    expect(await ok('run', '--rm', '--mount', filled, 'busybox', 'ls', '/etc/passwd')).toBe('/etc/passwd');
    expect((await ok('run', '--rm', '-v', 'parted:/v', 'busybox', 'ls', '/v')).split('\n')).not.toContain('passwd');
    await ok('volume', 'rm', 'parted');
  });

  it('an image is mounted read-only, whole or in part, and stays for as long as the container does', async () => {
    await ok('run', '--name', 'maker', 'busybox', 'sh', '-c', 'mkdir /d; echo 1 > /d/file; ln -s / /d/up; rm -r /tmp');
    await ok('commit', 'maker', 'shown:1');
    const image = (part: string): string => `type=image,src=shown:1,dst=/x${part && `,image-subpath=${part}`}`;
    const show = (part: string, ...command: string[]) =>
      docker('run', '--rm', '--mount', image(part), 'busybox', ...command);
    const whole = await show('', 'sh', '-c', 'cat /x/d/file; ls -d /x/tmp /x/bin; touch /x/new');
    expect(whole.stdout).toBe('1\n/x/bin\n');
    expect(whole.stderr).toMatch(/\/x\/tmp: No such file.*\/x\/new: Read-only file system/s);
    expect((await show('d', 'cat', '/x/file')).stdout).toBe('1\n');
    expect((await show('d/file', 'cat', '/x')).stdout).toBe('1\n');
    expect((await show('d/up', 'ls', '/x')).stderr).toContain('path concatenation escapes the base directory');
    expect((await show('../d', 'ls', '/x')).stderr).toContain('subpath must be a relative path within the volume');
    await ok('create', '--name', 'user', '--mount', image(''), 'busybox', 'cat', '/x/d/file');
    expect((await docker('rmi', 'shown:1')).stderr).toMatch(/container \w{12} is using its referenced image/);
    await ok('rmi', '-f', 'shown:1');
    await ok('image', 'prune', '-f');
    expect(await ok('start', '-a', 'user')).toBe('1');
    await ok('rm', 'user', 'maker');
    expect(await ok('image', 'prune', '-f')).toMatch(/deleted: sha256/);
  });

  it('--link gives variables and a name on the default bridge', async () => {
    await ok('run', '-d', '--name', 'target', '-e', 'A=1', '--expose', '80', 'busybox', 'sleep', '1000');
    const output = await ok(
      'run',
      '--rm',
      '--name',
      'linked',
      '--link',
      'target:data-base',
      '-e',
      'DATA_BASE_ENV_A=mine',
      'busybox',
      'sh',
      '-c',
      'env | grep DATA_BASE | sort; grep data-base /etc/hosts',
    );
    const { address } = JSON.parse(
      await ok('inspect', '-f', '{"address":"{{.NetworkSettings.IPAddress}}"}', 'target'),
    ) as { address: string };
    const id = (await ok('inspect', '-f', '{{.Id}}', 'target')).slice(0, 12);
    expect(output.split('\n')).toEqual([
      'DATA_BASE_ENV_A=mine',
      'DATA_BASE_NAME=/linked/data-base',
      `DATA_BASE_PORT=tcp://${address}:80`,
      `DATA_BASE_PORT_80_TCP=tcp://${address}:80`,
      `DATA_BASE_PORT_80_TCP_ADDR=${address}`,
      'DATA_BASE_PORT_80_TCP_PORT=80',
      'DATA_BASE_PORT_80_TCP_PROTO=tcp',
      `${address}\tdata-base ${id} target`,
    ]);
    expect((await docker('create', '--link', 'nobody:x', 'busybox')).stderr).toContain(
      'could not get container for nobody',
    );
    // whoever shares a network is linked to by its owner's address; an exec has the variables as well
    await ok('run', '-d', '--name', 'sharer', '--network', 'container:target', 'busybox', 'sleep', '1000');
    expect(await ok('run', '--rm', '--network', 'container:sharer', 'busybox', 'cat', '/etc/hostname')).toBe(id);
    await ok('run', '-d', '--name', 'other', '--link', 'sharer:db', 'busybox', 'sleep', '1000');
    expect((await ok('exec', 'other', 'env')).split('\n')).toContain('DB_NAME=/other/db');
    expect(await ok('exec', 'other', 'grep', '-w', 'db', '/etc/hosts')).toBe(`${address}\tdb ${id} target`);
    await ok('stop', '-t', '0', 'target');
    expect(await ok('exec', 'other', 'env'), 'who is linked to has ended').not.toContain('DB_NAME');
    const refused = await docker('run', '--rm', '--link', 'target:db', 'busybox', 'true');
    expect(refused.stderr).toContain('Cannot link to a non running container: /target AS ');
  });

  it('volumes take the options of mount: a directory elsewhere, a filesystem', async () => {
    mkdirSync(join(daemon.dir, 'elsewhere'));
    writeFileSync(join(daemon.dir, 'elsewhere/file'), 'from the host\n');
    const bind = ['--opt', 'type=none', '--opt', 'o=bind', '--opt', `device=${join(daemon.dir, 'elsewhere')}`];
    await ok('volume', 'create', ...bind, 'bound');
    const tmpfs = ['--opt', 'type=tmpfs', '--opt', 'device=tmpfs', '--opt', 'o=size=1m,uid=33'];
    await ok('volume', 'create', ...tmpfs, 'memory');
    const script = 'cat /b/file; grep " /m " /proc/mounts; stat -c %u /m';
    const output = await ok('run', '--rm', '-v', 'bound:/b', '-v', 'memory:/m', 'busybox', 'sh', '-c', script);
    expect(output).toMatch(/^from the host\ntmpfs \/m tmpfs .*size=1024k.*\n33$/);
    expect(JSON.parse(await ok('volume', 'inspect', '-f', '{{json .Options}}', 'memory'))).toMatchObject({
      type: 'tmpfs',
    });
    await ok('volume', 'rm', 'bound', 'memory');
    expect(readFileSync(join(daemon.dir, 'elsewhere/file'), 'utf8')).toBe('from the host\n');
  });

  it.each([
    [['foo=bar'], 'invalid option: "foo"'],
    [['type=tmpfs'], 'missing required option: "device"'],
    [['o=bind', 'device=/x'], 'missing required option: "type"'],
    [['type=nfs', 'device=:/x'], 'o=addr=ADDRESS'],
    [['size=1m'], 'quota size requested but no quota support'],
  ])('a volume with the options %j is refused', async (options, message) => {
    const flags = options.flatMap((option) => ['--opt', option]);
    expect((await docker('volume', 'create', ...flags, 'refused')).stderr).toContain(message);
    expect(await ok('volume', 'ls', '-q')).toBe('');
  });

  it('a websocket carries input and output, and says that it ends', async () => {
    await ok('create', '-i', '--name', 'echo', 'busybox', 'sh', '-c', 'read line; echo "got $line"; echo err >&2');
    const { socket, accept, head } = await openWebsocket(
      '/containers/echo/attach/ws?stream=1&stdin=1&stdout=1&stderr=1',
    );
    const key = Buffer.alloc(16, 7).toString('base64');
    expect(accept).toBe(createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64'));
    const seen = messages(socket, head);
    await ok('start', 'echo');
    socket.write(masked(9, 'ping'));
    socket.write(masked(1, 'hel'));
    socket.write(masked(2, 'lo\n'));
    const { text, opcodes } = await seen;
    expect(text.split('\n').sort()).toEqual(['', 'err', 'got hello']);
    expect(opcodes).toContain(10);
    expect(opcodes.at(-1)).toBe(8);
  });

  it('a request that is no handshake is answered as any other', async () => {
    await ok('create', '--name', 'plain', 'busybox', 'true');
    const answer = await daemon.http('GET', '/containers/plain/attach/ws');
    expect([answer.status, answer.body]).toEqual([400, expect.stringContaining('websocket')]);
    expect((await daemon.http('GET', '/containers/nobody/attach/ws')).status).toBe(404);
  });
});
