/** `caisson stats`. */
import type { StatsReading } from '../../client/index.ts';
import { humanSize } from '../../humanSize.ts';
import { type CommandShape, command } from '../command.ts';
import { engine } from '../connect.ts';
import { type Column, type ListFlags, printList } from '../table.ts';

const SHAPE: CommandShape = {
  name: 'stats',
  usage: '[OPTIONS] [CONTAINER...]',
  takes: [0],
  summary: 'Show what containers use',
  flags: [
    ['-a, --all', 'Stopped ones too'],
    ['--format <format>', 'table, json or a template'],
    ['--json', 'As --format json'],
    ['--no-stream', 'Once, and not again and again'],
    ['--no-trunc', 'Nothing is shortened'],
  ],
  examples: ['caisson stats --no-stream', "caisson stats --format '{{.Name}}: {{.CPUPerc}}' web"],
};

/** `asked`: as the container was named. */
type Reading = StatsReading & { asked: string };

interface StatsFlags extends ListFlags {
  all?: boolean;
  stream: boolean;
  trunc: boolean;
}

/** Of one processor: two busy ones are 200 %. */
export function cpuPercent({ cpu_stats: now, precpu_stats: before }: StatsReading): number {
  const used = now.cpu_usage.total_usage - before.cpu_usage.total_usage;
  const passed = (now.system_cpu_usage ?? 0) - (before.system_cpu_usage ?? 0);
  return used > 0 && passed > 0 ? (used / passed) * (now.online_cpus ?? 1) * 100 : 0;
}

/** What the kernel could take back at once is not counted, as docker does it. */
export function usedMemory({ memory_stats: { usage = 0, stats = {} } }: StatsReading): number {
  const cache = stats['total_inactive_file'] ?? stats['inactive_file'] ?? 0;
  return cache < usage ? usage - cache : usage;
}

const percent = (part: number): string => `${part.toFixed(2)}%`;

const sum = (reading: StatsReading, field: 'rx_bytes' | 'tx_bytes'): number =>
  Object.values(reading.networks ?? {}).reduce((total, counters) => total + counters[field], 0);

const disk = ({ blkio_stats }: StatsReading, op: string): number =>
  (blkio_stats.io_service_bytes_recursive ?? [])
    .filter((entry) => entry.op.toLowerCase() === op)
    .reduce((total, { value }) => total + value, 0);

const binary = (bytes: number): string => {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let at = 0;
  for (; value >= 1024 && at < units.length - 1; at++) value /= 1024;
  return `${Number(value.toPrecision(4))}${units[at]}`;
};

const COLUMNS: Column<Reading>[] = [
  { title: 'CONTAINER ID', field: 'ID', value: ({ id }) => id.slice(0, 12) },
  { title: 'NAME', field: 'Name', value: ({ name }) => name.replace(/^\//, ''), flexible: true },
  { title: 'CPU %', field: 'CPUPerc', value: (reading) => percent(cpuPercent(reading)) },
  {
    title: 'MEM USAGE / LIMIT',
    field: 'MemUsage',
    value: (reading) => `${binary(usedMemory(reading))} / ${binary(reading.memory_stats.limit ?? 0)}`,
  },
  {
    title: 'MEM %',
    field: 'MemPerc',
    value: (reading) =>
      percent(reading.memory_stats.limit ? (usedMemory(reading) / reading.memory_stats.limit) * 100 : 0),
  },
  {
    title: 'NET I/O',
    field: 'NetIO',
    value: (reading) => `${humanSize(sum(reading, 'rx_bytes'))} / ${humanSize(sum(reading, 'tx_bytes'))}`,
  },
  {
    title: 'BLOCK I/O',
    field: 'BlockIO',
    value: (reading) => `${humanSize(disk(reading, 'read'))} / ${humanSize(disk(reading, 'write'))}`,
  },
  { title: 'PIDS', field: 'PIDs', value: ({ pids_stats }) => String(pids_stats.current ?? 0) },
];

const WHOLE_ID: Column<Reading> = { title: 'CONTAINER ID', field: 'ID', value: ({ id }) => id };
const CONTAINER: Column<Reading> = { title: 'CONTAINER', field: 'Container', value: ({ asked }) => asked };

/** A reading of each takes a second: all are asked at the same time. */
async function read(names: readonly string[]): Promise<Reading[]> {
  const { containers } = engine();
  const readings = names.map(async (name) => {
    for await (const reading of containers.stats(name, { once: true })) return [{ ...reading, asked: name }];
    return [];
  });
  return (await Promise.all(readings)).flat();
}

export default command<StatsFlags>(SHAPE, async ({ flags, args }) => {
  const { containers } = engine();
  const terminal = process.stdout.isTTY === true && flags.format === undefined && !flags.json;
  for (;;) {
    const listed =
      args.length > 0 ? args : (await containers.list({ all: flags.all === true })).map(({ Id }) => Id.slice(0, 12));
    const readings = await read(listed);
    if (terminal && flags.stream) process.stdout.write('\u001b[H\u001b[J');
    await printList(
      readings,
      { columns: flags.trunc ? COLUMNS : [WHOLE_ID, ...COLUMNS.slice(1)], more: [CONTAINER] },
      flags,
    );
    if (!flags.stream) return 0;
  }
});
