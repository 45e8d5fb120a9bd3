/**
 * Our command line beside docker's, over the same daemon: what both are asked they answer in the same way, down to the
 * exit code; what they copy is the same.
 */
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type CommandResult, TestDaemon } from '../helpers/daemon.ts';
import { buildImage, busyboxTar, ociArchive } from '../helpers/image.ts';
import { oracle } from '../helpers/oracle.ts';
import { missing } from '../helpers/requires.ts';

const IMAGE = 'cli.test/busybox:1';

/** Templates over `inspect web`. */
const TEMPLATES = [
  '{{.State.Status}}',
  '{{json .Config.Env}}',
  '{{json .Mounts}}',
  '{{index .Config.Labels "team.name"}}',
  '{{.Config.Labels.nope}}',
  '{{range .Mounts}}{{.Type}}:{{.Destination}} {{end}}',
  '{{range $name, $network := .NetworkSettings.Networks}}{{$name}}={{$network.IPAddress}}{{end}}',
  '{{range $p, $conf := .NetworkSettings.Ports}}{{$p}} -> {{(index $conf 0).HostPort}}{{end}}',
  '{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}',
  '{{with .NetworkSettings}}{{len .Networks}}{{end}}',
  '{{if .State.Running}}up{{else}}down{{end}} {{if and .State.Running (not .State.Paused)}}busy{{end}}',
  '{{if eq .State.Status "exited" "dead"}}a{{else if gt .State.Pid 1}}b{{else}}c{{end}}',
  '{{printf "%s|%5d|%-6s|%q|%v|%t|%x" .Name 42 "ab" "q" .Config.Cmd .State.Running 255}}',
  '{{printf "%.3s %03d %% %5.1f" "abcdef" 7 2.26}}',
  '{{join .Config.Cmd " "}} {{split "a:b" ":"}} {{upper "x"}} {{lower "Y"}} {{title "red hat"}}',
  '{{slice .Id 0 12}} {{truncate .Name 3}} {{pad "x" 1 2}}|',
  '{{range .Config.Cmd}}{{println .}}{{end}}',
  '{{/* nothing */}}{{- .Name -}} ',
  '{{$x := 1}}{{range $i, $c := .Config.Cmd}}{{if $i}}{{$x}}{{$x = $i}}{{end}}{{end}}{{$x}}',
  '{{print 1 2 "a" "b" 3}} {{html "<a>"}} {{urlquery "a b&c"}} {{len "äb"}}',
  '{{.Config.Cmd}} {{.HostConfig.Memory}} {{.HostConfig.NetworkMode}} {{.State.Paused}}',
  '{{.Nope}}',
  '{{.State.Health.Status}}',
  '{{nope .}}',
  '{{.State.Status',
];

const SAME: string[][] = [
  ...TEMPLATES.map((template) => ['inspect', '-f', template, 'web']),
  ['ps', '-aq'],
  ['ps', '-aq', '--no-trunc'],
  ['ps', '-a', '--format', '{{.ID}} {{.Names}} {{.Image}} {{.Command}} {{.State}} {{.Ports}} {{.Labels}}'],
  ['ps', '-a', '--format', '{{.Networks}} {{.Mounts}} {{.LocalVolumes}} {{.Label "team.name"}} {{json .Names}}'],
  ['ps', '-a', '--format', 'table {{.Names}}\t{{.State}}\t{{.Label "team.name"}}'],
  ['ps', '-a', '--format', 'table {{upper .Names}}\t{{.Image}}'],
  ['ps', '-a', '--filter', 'label=team.name=x', '--format', '{{.Names}}'],
  ['ps', '-n', '1', '--format', '{{.Names}}'],
  ['ps', '-l', '-q'],
  ['ps', '--format', '{{.Nope}}'],
  ['ps', '--format', '{{.Names'],
  ['container', 'ls', '-a', '-q'],
  ['container', 'list', '--format', '{{.Names}}'],
  ['container', 'inspect', '-f', '{{.Name}}', 'web', 'job'],
  ['images', '--format', '{{.Repository}}:{{.Tag}} {{.ID}} {{.Size}} {{.Containers}} {{.CreatedAt}}'],
  ['images', '-q', '--no-trunc'],
  ['images', '--format', 'table {{.Repository}}\t{{.Tag}}'],
  ['image', 'ls', '-q', 'cli.test/*'],
  ['image', 'inspect', '-f', '{{.Os}}/{{.Architecture}} {{json .Config.Cmd}}', IMAGE],
  ['history', '--format', '{{.ID}} {{.CreatedBy}} {{.Size}} {{.CreatedAt}}', IMAGE],
  ['history', '-q', '-H=false', IMAGE],
  ['volume', 'ls', '-q'],
  ['volume', 'ls'],
  [
    'volume',
    'ls',
    '--format',
    '{{.Name}} {{.Driver}} {{.Scope}} {{.Mountpoint}} {{.Labels}} {{.Label "l"}} {{.Links}}',
  ],
  ['volume', 'ls', '-qf', 'dangling=true'],
  ['volume', 'inspect', 'data'],
  ['volume', 'inspect', '-f', '{{.Name}} {{json .Options}}', 'data'],
  [
    'network',
    'ls',
    '--format',
    '{{.ID}} {{.Name}} {{.Driver}} {{.Scope}} {{.IPv4}} {{.IPv6}} {{.Internal}} {{.Labels}}',
  ],
  ['network', 'ls', '-q', '--filter', 'driver=bridge'],
  ['network', 'inspect', '-f', '{{range .IPAM.Config}}{{.Subnet}}{{end}}', 'net'],
  ['port', 'web'],
  ['port', 'web', '80'],
  ['port', 'web', '80/tcp'],
  ['port', 'web', '81'],
  ['diff', 'web'],
  ['top', 'web', '-o', 'pid,args'],
  ['logs', 'job'],
  ['logs', '-n', '1', 'job'],
  ['wait', 'job'],
  ['system', 'df', '--format', '{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}} {{.Reclaimable}}'],
  ['system', 'info', '-f', '{{.ServerVersion}} {{.Driver}} {{.NCPU}}'],
  ['version', '-f', '{{.Server.Version}} {{.Server.Os}}'],
  ['stats', '--no-stream', '--format', '{{.ID}} {{.Name}} {{.Container}} {{.PIDs}}', 'web'],
  ['exec', 'web', 'sh', '-c', 'echo hi; exit 3'],
  ['cp', 'web:/nope', '/tmp'],
  ['cp', '/nope', 'web:/tmp'],
  ['cp', 'web:/etc/passwd', '/nope/at/all'],
  ['cp', 'web:/etc/passwd', 'job:/x'],
  ['cp', '/etc/passwd', '/tmp'],
  // what is wrong, by its exit code
  ['inspect', 'nope'],
  ['inspect', '--type', 'container', 'nope'],
  ['inspect', '--type', 'nope', 'web'],
  ['volume', 'inspect', 'nope'],
  ['network', 'rm', 'nope'],
  ['network', 'rm', '-f', 'nope'],
  ['volume', 'rm', 'nope'],
  ['volume', 'rm', '-f', 'nope'],
  ['volume', 'rm', 'data'],
  ['rm', 'web'],
  ['rm', 'nope'],
  ['rmi', 'nope'],
  ['start', 'nope'],
  ['stop', 'nope'],
  ['kill', 'job'],
  ['pause', 'job'],
  ['rename', 'web', 'job'],
  ['update', 'web'],
  ['exec', 'job', 'true'],
  ['exec', 'web', 'nope'],
  ['run', IMAGE, 'nope'],
  ['run', '--name', 'web', IMAGE],
  ['run', '--pull', 'never', 'nope.test/x'],
  ['create', '--pull', 'never', 'nope.test/x'],
  ['logs', 'nope'],
  ['ps', '--nope'],
  ['ps', 'x'],
  ['ps', '-n', 'x'],
  ['ps', '-f', 'x'],
  ['stop', '-t', 'x', 'web'],
  ['run', '-m', 'x', IMAGE],
  ['run', '-p', 'x', IMAGE],
  ['run', '--nope'],
  ['run'],
  ['rename', 'web'],
  ['nope'],
  ['volume', 'nope'],
  ['network', 'connect', 'net'],
];

describe.skipIf(missing('root', 'build', 'docker', 'busybox'))('our command line', () => {
  let daemon: TestDaemon;
  beforeAll(async () => {
    daemon = await new TestDaemon().start();
    const image = buildImage([await busyboxTar()]);
    await daemon.docker(['load'], { input: await ociArchive(image, IMAGE) });
    await daemon.dockerOk('network', 'create', '--label', 'n=1', 'net');
    await daemon.dockerOk('volume', 'create', '--label', 'l=1', 'data');
    await daemon.dockerOk('volume', 'create', 'idle');
    const flags = ['--name', 'web', '-p', '80', '--network', 'net', '-v', 'data:/data', '--label', 'team.name=x'];
    await daemon.dockerOk('run', '-d', ...flags, '-e', 'A=b', IMAGE, 'sleep', '1000');
    await daemon.dockerOk('exec', 'web', 'sh', '-c', 'mkdir /made; echo x > /made/file');
    await daemon.docker(['run', '--name', 'job', '--network', 'none', IMAGE, 'sh', '-c', 'echo one; echo two; exit 4']);
  });
  afterAll(async () => {
    const leaked = await oracle(daemon);
    await daemon[Symbol.asyncDispose]();
    expect(leaked).toEqual([]);
  });

  it.each(SAME.map((args) => ({ args, title: args.join(' ') })))('$title', async ({ args }) => {
    const [docker, ours] = await Promise.all([daemon.docker(args), daemon.caisson(args)]);
    const text = ({ stdout }: CommandResult): string => stdout.replace(/ +$/gm, '').trimEnd();
    expect({ code: ours.code, stdout: text(ours) }).toEqual({ code: docker.code, stdout: text(docker) });
    expect(ours.stderr === '', `docker said: ${docker.stderr}`).toBe(docker.stderr === '');
  });

  it('says which fields a table has when a template asks for another', async () => {
    const { stderr } = await daemon.caisson(['volume', 'ls', '--format', '{{.Nope}}']);
    expect(stderr).toContain('there are Driver, Labels, Links, Mountpoint, Name, Scope, Size');
  });

  it('prunes after a question, and says what went', async () => {
    const ask = await daemon.caisson(['volume', 'prune', '-a'], { input: 'n\n' });
    expect(ask.stdout).toContain('Are you sure you want to continue? [y/N]');
    expect((await daemon.caisson(['volume', 'ls', '-q'])).stdout).toBe('data\nidle\n');
    const done = await daemon.caisson(['volume', 'prune', '-a'], { input: 'y\n' });
    expect(done.stdout).toContain('Deleted Volumes:\nidle\n\nTotal reclaimed space: ');
    await daemon.caisson(['run', '-d', '--name', 'gone', IMAGE, 'true']);
    await daemon.caisson(['wait', 'gone']);
    await daemon.caisson(['network', 'create', 'unused']);
    const all = await daemon.caisson(['system', 'prune', '-f', '--filter', 'label!=keep']);
    expect(all.stdout).toMatch(
      /^Deleted Containers:\n[0-9a-f]{64}\n.*\nDeleted Networks:\nunused\n\nTotal reclaimed space: /s,
    );
    expect((await daemon.caisson(['ps', '-q'])).stdout).toMatch(/^[0-9a-f]{12}\n$/);
  });

  it('completes words, names of containers and values of flags', async () => {
    const complete = async (...words: string[]): Promise<string[]> =>
      (await daemon.caisson(['__complete', ...words])).stdout
        .split('\n')
        .map((line) => line.split('\t', 1)[0] ?? '')
        .filter(Boolean)
        .sort();
    expect(await complete('vol')).toEqual(['volume']);
    expect(await complete('volume', 'i')).toEqual(['inspect']);
    expect(await complete('stop', 'w')).toEqual(['web']);
    expect(await complete('run', '--network', 'n')).toEqual(['net', 'none']);
    expect(await complete('run', '--rm', 'cli')).toEqual([IMAGE]);
    expect(await complete('run', '--read')).toEqual(['--read-only']);
    expect(await complete('volume', 'rm', 'd')).toEqual(['data']);
    for (const shell of ['bash', 'zsh', 'fish'])
      expect((await daemon.caisson(['completion', shell])).stdout).toContain('caisson __complete');
  });

  it('says what the machine has and lacks', async () => {
    const { stdout } = await daemon.caisson(['doctor', '--json']);
    const checks = JSON.parse(stdout) as { name: string; state: string; detail: string; fix?: string }[];
    expect(checks.find(({ name }) => name === 'daemon')).toMatchObject({ state: 'ok' });
    expect(checks.filter(({ state, fix }) => state === 'missing' && fix === undefined)).toEqual([]);
  });

  describe('cp', () => {
    const dir = (name: string): string => join(daemon.dir, name);
    beforeAll(async () => {
      const source = dir('source');
      mkdirSync(join(source, 'tree/sub'), { recursive: true });
      writeFileSync(join(source, 'file'), 'text');
      chmodSync(join(source, 'file'), 0o640);
      writeFileSync(join(source, 'tree/a'), 'a');
      writeFileSync(join(source, 'tree/sub/b'), 'b'.repeat(100_000));
      symlinkSync('a', join(source, 'tree/link'));
      symlinkSync('tree', join(source, 'to-tree'));
      symlinkSync('file', join(source, 'to-file'));
      await daemon.dockerOk('cp', `${source}/.`, 'web:/source');
      await daemon.dockerOk('exec', 'web', 'sh', '-c', 'ln /source/file /source/hard; mkfifo /source/tree/fifo');
    });

    /** All below a directory: kind, mode, content. */
    function listing(path: string, below = ''): string[] {
      return readdirSync(join(path, below))
        .sort()
        .flatMap((name) => {
          const at = join(below, name);
          const stat = lstatSync(join(path, at));
          const mode = stat.mode.toString(8);
          if (stat.isDirectory()) return [`${at} ${mode}`, ...listing(path, at)];
          if (stat.isSymbolicLink()) return [`${at} -> ${readlinkSync(join(path, at))}`];
          return [
            `${at} ${mode} ${stat.isFile() ? readFileSync(join(path, at)).length : ''} ${Math.floor(stat.mtimeMs / 1000)}`,
          ];
        });
    }

    it.each([
      ['/source/file', '.'],
      ['/source/file', 'new'],
      ['/source/file', 'there'],
      ['/source/file', 'there/'],
      ['/source/file', 'nope/'],
      ['/source/file', 'old'],
      ['/source/tree', '.'],
      ['/source/tree', 'new'],
      ['/source/tree', 'there'],
      ['/source/tree/', 'there'],
      ['/source/tree/.', 'there'],
      ['/source/tree/.', 'new'],
      ['/source/tree', 'old'],
      ['/source/to-tree', '.'],
      ['/source/to-file', '.'],
      ['-L', '/source/to-file', '.'],
      ['-L', '/source/to-file', 'new'],
      ['-L', '/source/to-tree', 'there'],
      ['/source/to-tree/', 'there'],
      ['/source/file', 'to-there'],
      ['/source', 'new'],
      ['/', 'new/nope'],
    ])('out: %s %s %s', async (...args) => {
      const ends = [];
      for (const cli of ['docker', 'caisson'] as const) {
        const cwd = dir(`out-${cli}-${args.join('_').replaceAll('/', '+')}`);
        mkdirSync(join(cwd, 'there'), { recursive: true });
        writeFileSync(join(cwd, 'old'), 'old');
        symlinkSync('there', join(cwd, 'to-there'));
        const given = args.map((arg, i) => (i === args.length - 2 ? `web:${arg}` : arg));
        const { code } = await daemon[cli](['cp', ...given], { cwd });
        ends.push({ code, files: listing(cwd).filter((line) => !/^(there|new) |^old .* 3 /.test(line)) });
      }
      expect(ends[1]).toEqual(ends[0]);
    });

    it.each([
      ['file', '/'],
      ['file', '/new'],
      ['file', '/there'],
      ['file', '/nope/'],
      ['file', '/nope/x'],
      ['tree', '/new'],
      ['tree', '/there'],
      ['tree/', '/there'],
      ['tree/.', '/there'],
      ['tree/.', '/new'],
      ['tree', '/old'],
      ['to-tree', '/there'],
      ['to-file', '/there'],
      ['-L', 'to-file', '/there'],
      ['-L', 'to-tree', '/there'],
      ['-a', 'tree', '/there'],
      ['file', '/to-there'],
      ['tree', '/to-there'],
    ])('in: %s %s %s', async (...args) => {
      const ends = [];
      for (const cli of ['docker', 'caisson'] as const) {
        const root = `/in-${cli}`;
        await daemon.dockerOk(
          'exec',
          'web',
          'sh',
          '-c',
          `rm -rf ${root}; mkdir -p ${root}/there; echo old > ${root}/old; ln -s there ${root}/to-there`,
        );
        const given = args.map((arg, i) => (i === args.length - 1 ? `web:${root}${arg}` : arg));
        const { code } = await daemon[cli](['cp', ...given], { cwd: dir('source') });
        const find = `cd ${root} && find . | sort | while read f; do stat -c '%n %f %u:%g %s %N' "$f"; done`;
        ends.push({ code, files: await daemon.dockerOk('exec', 'web', 'sh', '-c', find) });
      }
      expect(ends[1]).toEqual(ends[0]);
    });

    it('passes archives on', async () => {
      const [docker, ours] = [
        await daemon.docker(['cp', 'web:/source/tree', '-']),
        await daemon.caisson(['cp', 'web:/source/tree', '-']),
      ];
      expect(ours).toEqual(docker);
      expect(await daemon.caisson(['cp', '-', 'web:/made'], { input: docker.stdout })).toMatchObject({ code: 0 });
      expect(await daemon.dockerOk('exec', 'web', 'cat', '/made/tree/a')).toBe('a');
    });
  });
});
