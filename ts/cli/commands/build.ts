/** `caisson build`. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { isAbsolute, join, relative, resolve } from 'node:path';
import { BuildFailed, type BuildOptions } from '../../client/index.ts';
import { cleaned, hasExceptions, ignoreRules, ignoring } from '../../dockerignore.ts';
import { type CommandShape, command } from '../command.ts';
import { engineOrStart } from '../connect.ts';
import { parseHost, parseUlimit } from '../createBody.ts';
import { allCredentials } from '../credentials.ts';
import { ExitCode } from '../failure.ts';
import { tarArchive } from '../tarArchive.ts';
import { invalidFlag, parseInteger, parseSize } from '../units.ts';

const SHAPE: CommandShape = {
  name: 'build',
  usage: '[OPTIONS] PATH | URL | -',
  takes: [1, 1],
  summary: 'Make an image by a Dockerfile',
  flags: [
    ['--add-host <host:ip>', 'Add a host to /etc/hosts of the commands', 'list'],
    ['--build-arg <name[=value]>', 'Value of an ARG; without one that of the environment', 'list'],
    ['--cache-from <image>', 'Use the steps of this image', 'list'],
    ['--cgroup-parent <path>', 'Parent cgroup of the commands'],
    ['--cpu-period <us>', 'Period of the CPU quota'],
    ['--cpu-quota <us>', 'CPU time of a period'],
    ['-c, --cpu-shares <n>', 'Relative share of CPU time'],
    ['--cpuset-cpus <list>', 'CPUs that the commands may use'],
    ['--cpuset-mems <list>', 'Memory nodes that the commands may use'],
    ['-f, --file <path>', 'The Dockerfile; by default PATH/Dockerfile'],
    ['--force-rm', 'Remove the container of a step that fails too'],
    ['--iidfile <path>', 'Write the id of the image to this file'],
    ['--label <name=value>', 'Set a label', 'list'],
    ['-m, --memory <bytes>', 'Memory of the commands'],
    ['--memory-swap <bytes>', 'Memory and swap; -1 for unlimited swap'],
    ['--network <mode>', 'Network of the commands'],
    ['--no-cache', 'Do every step again'],
    ['--platform <os/arch>', 'Platform of the image'],
    ['--pull', 'Look for newer base images'],
    ['-q, --quiet', 'Print the id of the image alone'],
    ['--rm', 'Remove the containers of the steps', 'on'],
    ['--shm-size <bytes>', 'Size of /dev/shm'],
    ['-t, --tag <name[:tag]>', 'Name of the image', 'list'],
    ['--target <stage>', 'Build up to this stage'],
    ['--ulimit <name=soft[:hard]>', 'Set a resource limit', 'list'],
  ],
  examples: ['caisson build -t mine .', 'caisson build -t mine -f deploy/Dockerfile --target test .'],
};

interface BuildFlags {
  addHost: string[];
  buildArg: string[];
  cacheFrom: string[];
  cgroupParent?: string;
  cpuPeriod?: string;
  cpuQuota?: string;
  cpuShares?: string;
  cpusetCpus?: string;
  cpusetMems?: string;
  file?: string;
  forceRm?: boolean;
  iidfile?: string;
  label: string[];
  memory?: string;
  memorySwap?: string;
  network?: string;
  noCache?: boolean;
  platform?: string;
  pull?: boolean;
  quiet?: boolean;
  rm: boolean;
  shmSize?: string;
  tag: string[];
  target?: string;
  ulimit: string[];
}

export default command<BuildFlags>(SHAPE, async ({ flags, args }) => {
  const [place = ''] = args;
  const { context, dockerfile } = contextOf(place, flags.file);
  let id = '';
  try {
    for await (const line of (await engineOrStart()).images.build(context, { ...optionsOf(flags), dockerfile })) {
      id = line.aux?.ID ?? id;
      if (line.stream !== undefined) process.stdout.write(line.stream);
      else if (line.status !== undefined && line.progressDetail?.total === undefined)
        process.stderr.write(line.id === undefined ? `${line.status}\n` : `${line.id}: ${line.status}\n`);
      if (flags.quiet && line.stream?.startsWith('sha256:')) id = line.stream.trim();
    }
  } catch (error) {
    if (error instanceof BuildFailed) throw new ExitCode(error.exitCode, `caisson: ${error.message}`);
    throw error;
  }
  if (flags.iidfile !== undefined) await writeFile(flags.iidfile, id);
  return 0;
});

function contextOf(
  place: string,
  file: string | undefined,
): { context: AsyncIterable<Uint8Array> | string; dockerfile: string | undefined } {
  if (/^(https?:\/\/|git@|git:\/\/|ssh:\/\/)/.test(place)) return { context: place, dockerfile: file };
  if (place === '-') return { context: process.stdin, dockerfile: file };
  if (!existsSync(place))
    throw new ExitCode(1, `caisson: unable to prepare context: path ${JSON.stringify(place)} not found`);
  if (!statSync(place).isDirectory())
    throw new ExitCode(1, `caisson: unable to prepare context: context must be a directory: ${resolve(place)}`);
  const path = file === undefined ? join(place, 'Dockerfile') : resolve(file);
  const inside = file !== undefined && !existsSync(path) ? file : relative(resolve(place), resolve(path));
  if (isAbsolute(inside) || inside.startsWith('..'))
    throw new ExitCode(1, `caisson: the Dockerfile (${path}) must be within the build context`);
  if (!existsSync(join(place, inside)))
    throw new ExitCode(1, `caisson: failed to read dockerfile: ${join(place, inside)}: no such file or directory`);
  return { context: pack(place, inside), dockerfile: inside };
}

/** The directory without what `.dockerignore` excludes; the two files that the engine reads are in it all the same. */
function pack(dir: string, dockerfile: string): AsyncIterable<Buffer> {
  const own = ['.dockerignore', `${dockerfile}.dockerignore`].map((name) => join(dir, name)).reverse();
  const found = own.find(existsSync);
  const rules = found === undefined ? '' : readFileSync(found, 'utf8');
  const isIgnored = ignoring(ignoreRules(rules));
  const mayReturn = hasExceptions(rules);
  return tarArchive(
    {
      cwd: dir,
      filter: (path, stat) => {
        const name = cleaned(path);
        if (name === '' || name === '.dockerignore' || cleaned(dockerfile) === name) return true;
        if (cleaned(dockerfile).startsWith(`${name}/`)) return true;
        return !isIgnored(name) || (mayReturn && 'isDirectory' in stat && stat.isDirectory());
      },
    },
    ['.'],
  );
}

function optionsOf(flags: BuildFlags): BuildOptions {
  const size = (text: string | undefined, flag: string): number | undefined =>
    text === undefined ? undefined : text === '-1' ? -1 : parseSize(text, flag);
  const integer = (text: string | undefined, flag: string): number | undefined =>
    text === undefined ? undefined : parseInteger(text, flag);
  return {
    tags: flags.tag,
    target: flags.target,
    platform: flags.platform,
    buildArgs: Object.fromEntries(flags.buildArg.map(buildArg)),
    labels: Object.fromEntries(flags.label.map(pair)),
    ...(flags.cacheFrom.length > 0 && { cacheFrom: flags.cacheFrom }),
    noCache: flags.noCache === true,
    pull: flags.pull === true,
    quiet: flags.quiet === true,
    remove: flags.rm,
    forceRemove: flags.forceRm === true,
    network: flags.network,
    extraHosts: flags.addHost.map(parseHost),
    ulimits: flags.ulimit.map(parseUlimit),
    limits: {
      cgroupparent: flags.cgroupParent,
      cpuperiod: integer(flags.cpuPeriod, '--cpu-period'),
      cpuquota: integer(flags.cpuQuota, '--cpu-quota'),
      cpushares: integer(flags.cpuShares, '--cpu-shares'),
      cpusetcpus: flags.cpusetCpus,
      cpusetmems: flags.cpusetMems,
      memory: size(flags.memory, '--memory'),
      memswap: size(flags.memorySwap, '--memory-swap'),
      shmsize: size(flags.shmSize, '--shm-size'),
    },
    logins: allCredentials(),
  };
}

/** A name alone takes the environment's value, and none where that has none. */
function buildArg(text: string): [string, string | null] {
  const at = text.indexOf('=');
  return at < 0 ? [text, process.env[text] ?? null] : [text.slice(0, at), text.slice(at + 1)];
}

function pair(text: string): [string, string] {
  const at = text.indexOf('=');
  if (at === 0) throw invalidFlag('--label', text, 'a name is missing');
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}
