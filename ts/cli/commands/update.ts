/** `caisson update`. */
import type { UpdateBody } from '../../client/index.ts';
import { type CommandShape, command } from '../command.ts';
import { engine } from '../connect.ts';
import { each } from '../each.ts';
import { ExitCode } from '../failure.ts';
import { parsePorts } from '../ports.ts';
import { invalidFlag, parseCpus, parseInteger, parseSize } from '../units.ts';

const SHAPE: CommandShape = {
  name: 'update',
  usage: '[OPTIONS] CONTAINER [CONTAINER...]',
  takes: [1],
  summary: 'Change the limits and the restart policy of containers',
  flags: [
    ['--blkio-weight <n>', 'Share of disk time, 10 to 1000'],
    ['-c, --cpu-shares <n>', 'Share of processor time'],
    ['--cpu-period <us>', 'Period of the processor quota'],
    ['--cpu-quota <us>', 'Processor time in a period'],
    ['--cpus <n>', 'Number of processors'],
    ['--cpuset-cpus <list>', 'Processors it may use'],
    ['--cpuset-mems <list>', 'Memory nodes it may use'],
    ['-m, --memory <bytes>', 'Memory limit'],
    ['--memory-reservation <bytes>', 'Memory that is left to it when memory is short'],
    ['--memory-swap <bytes>', 'Limit of memory and swap together; -1: none'],
    ['--pids-limit <n>', 'Number of processes; -1: no limit'],
    ['--publish-add <port>', 'Publish a port, also while it runs: [[ip:][hostPort]:]containerPort[/protocol]', 'list'],
    ['--publish-rm <port>', 'Publish a port no more, named as it was published', 'list'],
    ['--restart <policy>', 'no, always, unless-stopped, on-failure[:n]'],
  ],
  examples: [
    'caisson update --memory 512m --memory-swap 1g web',
    'caisson update --restart always web db',
    'caisson update --publish-add 8080:80 web',
  ],
};

type Flags = Partial<
  Record<
    | 'blkioWeight'
    | 'cpuShares'
    | 'cpuPeriod'
    | 'cpuQuota'
    | 'cpus'
    | 'cpusetCpus'
    | 'cpusetMems'
    | 'memory'
    | 'memoryReservation'
    | 'memorySwap'
    | 'pidsLimit'
    | 'restart',
    string
  >
> & { publishAdd: string[]; publishRm: string[] };

const optional = <T>(
  text: string | undefined,
  flag: string,
  parse: (text: string, flag: string) => T,
): T | undefined => (text === undefined ? undefined : parse(text, flag));

function policy(text: string, flag: string): { Name: string; MaximumRetryCount: number } {
  const [Name = '', retries] = text.split(/:(.*)/s);
  if (retries !== undefined && !/^\d+$/.test(retries))
    throw invalidFlag(flag, text, 'the number of retries is no number');
  return { Name, MaximumRetryCount: Number(retries ?? 0) };
}

function body(flags: Flags): UpdateBody {
  return {
    BlkioWeight: optional(flags.blkioWeight, '--blkio-weight', parseInteger),
    CpuShares: optional(flags.cpuShares, '--cpu-shares', parseInteger),
    CpuPeriod: optional(flags.cpuPeriod, '--cpu-period', parseInteger),
    CpuQuota: optional(flags.cpuQuota, '--cpu-quota', parseInteger),
    NanoCpus: optional(flags.cpus, '--cpus', parseCpus),
    CpusetCpus: flags.cpusetCpus,
    CpusetMems: flags.cpusetMems,
    Memory: optional(flags.memory, '--memory', parseSize),
    MemoryReservation: optional(flags.memoryReservation, '--memory-reservation', parseSize),
    MemorySwap: optional(flags.memorySwap, '--memory-swap', (text, flag) =>
      text === '-1' ? -1 : parseSize(text, flag),
    ),
    PidsLimit: optional(flags.pidsLimit, '--pids-limit', parseInteger),
    PublishAdd: flags.publishAdd.length > 0 ? parsePorts(flags.publishAdd) : undefined,
    PublishRemove: flags.publishRm.length > 0 ? parsePorts(flags.publishRm) : undefined,
    RestartPolicy: optional(flags.restart, '--restart', policy),
  };
}

export default command<Flags>(SHAPE, async ({ flags, args }) => {
  const changes = body(flags);
  if (Object.values(changes).every((value) => value === undefined)) {
    throw new ExitCode(1, 'caisson: you must provide one or more flags when using this command');
  }
  const { containers } = engine();
  return each(args, async (name) => {
    const { Warnings } = await containers.update(name, changes);
    for (const warning of Warnings ?? []) process.stderr.write(`${warning}\n`);
    return name;
  });
});
