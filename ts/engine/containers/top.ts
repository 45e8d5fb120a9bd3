/** `top`: the processes of a container, read from /proc by the engine itself; nothing of the container is run for it. */
import { readFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { CaissonError } from '../../errdefs.ts';
import type { ContainerContext } from './context.ts';
import { isRunning, readRecord } from './record.ts';
import { cgroupOf } from './spawn.ts';

interface Process {
  pid: number;
  ppid: number;
  uid: number;
  tty: string;
  startTicks: number;
  cpuTicks: number;
  rssKb: number;
  vszKb: number;
  state: string;
  command: string;
  name: string;
}

/** USER_HZ: the unit of times in /proc, 100 on every architecture that we run on. */
const TICKS_PER_SECOND = 100;
const PAGE_KB = 4;

/** What ps says behind the state; `field`: of /proc/PID/stat, counted from the state. */
function flagsOf(pid: number, field: (index: number) => number): string {
  const nice = field(16);
  return [
    nice < 0 ? '<' : nice > 0 ? 'N' : '',
    field(3) === pid ? 's' : '',
    field(17) > 1 ? 'l' : '',
    field(5) === field(2) ? '+' : '',
  ].join('');
}

function readProcess(pid: number): Process | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // the name stands in parentheses and may hold some itself
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const name = stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')'));
    const number = (index: number): number => Number(fields[index]);
    const status = readFileSync(`/proc/${pid}/status`, 'latin1');
    const command = readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ').trim();
    const device = number(4);
    return {
      pid,
      ppid: number(1),
      uid: Number(/^Uid:\s*\d+\s+(\d+)/m.exec(status)?.[1]),
      tty: device === 0 ? '?' : `pts/${device & 0xff}`,
      startTicks: number(19),
      cpuTicks: number(11) + number(12),
      rssKb: number(21) * PAGE_KB,
      vszKb: Math.floor(number(20) / 1024),
      state: `${fields[0] ?? '?'}${flagsOf(pid, number)}`,
      command: command || `[${name}]`,
      name,
    };
  } catch {
    return undefined;
  }
}

/** The host's names of users; the container's own files are never read for this. */
function hostUsers(): Map<number, string> {
  const users = new Map<number, string>();
  for (const line of readFileSync('/etc/passwd', 'utf8').split('\n')) {
    const [name, , uid] = line.split(':');
    if (name && uid && !users.has(Number(uid))) users.set(Number(uid), name);
  }
  return users;
}

const two = (value: number): string => String(value).padStart(2, '0');

function startText(bootMs: number, ticks: number): string {
  const date = new Date(bootMs + (ticks * 1000) / TICKS_PER_SECOND);
  const today = Date.now() - date.getTime() < 86_400_000;
  return today
    ? `${two(date.getHours())}:${two(date.getMinutes())}`
    : date.toDateString().slice(4, 10).replace(' ', '');
}

const cpuText = (ticks: number): string => {
  const seconds = Math.floor(ticks / TICKS_PER_SECOND);
  return `${two(Math.floor(seconds / 3600))}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
};

const shortCpuText = (ticks: number): string => {
  const seconds = Math.floor(ticks / TICKS_PER_SECOND);
  return `${Math.floor(seconds / 60)}:${two(seconds % 60)}`;
};

interface Host {
  users: Map<number, string>;
  bootMs: number;
  memoryKb: number;
}

type Column = (process: Process, host: Host) => string;

const cpuShare = (process: Process, host: Host): number => {
  const lived = (Date.now() - host.bootMs) / 1000 - process.startTicks / TICKS_PER_SECOND;
  return lived > 0 ? (process.cpuTicks / TICKS_PER_SECOND / lived) * 100 : 0;
};

const user: Column = ({ uid }, { users }) => users.get(uid) ?? String(uid);
const COLUMNS: Record<string, Column> = {
  UID: user,
  USER: user,
  PID: ({ pid }) => String(pid),
  PPID: ({ ppid }) => String(ppid),
  C: (process, host) => String(Math.floor(cpuShare(process, host))),
  '%CPU': (process, host) => cpuShare(process, host).toFixed(1),
  '%MEM': ({ rssKb }, { memoryKb }) => ((rssKb / memoryKb) * 100).toFixed(1),
  STIME: ({ startTicks }, { bootMs }) => startText(bootMs, startTicks),
  START: ({ startTicks }, { bootMs }) => startText(bootMs, startTicks),
  TTY: ({ tty }) => tty,
  TIME: ({ cpuTicks }) => cpuText(cpuTicks),
  BSDTIME: ({ cpuTicks }) => shortCpuText(cpuTicks),
  CMD: ({ command }) => command,
  COMMAND: ({ command }) => command,
  COMM: ({ name }) => name,
  ARGS: ({ command }) => command,
  STAT: ({ state }) => state,
  RSS: ({ rssKb }) => String(rssKb),
  VSZ: ({ vszKb }) => String(vszKb),
};

const FULL = ['UID', 'PID', 'PPID', 'C', 'STIME', 'TTY', 'TIME', 'CMD'];
const BSD = ['USER', 'PID', '%CPU', '%MEM', 'VSZ', 'RSS', 'TTY', 'STAT', 'START', 'BSDTIME', 'COMMAND'];

/** Titles of `ps -o`, where they are not the name that was asked for. */
const HEADINGS: Record<string, string> = {
  COMM: 'COMMAND',
  ARGS: 'COMMAND',
  TTY: 'TT',
  START: 'STARTED',
  BSDTIME: 'TIME',
};

interface Request {
  columns: string[];
  /** Absent: by pid. */
  sort?: { column: Column; descending: boolean };
}

/**
 * `-ef` (the default), `aux`, or a list of columns `-o pid,user,comm`, each with `--sort=comm` if need be; Docker hands
 * anything on to the host's ps.
 */
function parseArguments(args: string): Request {
  const [, sign = '', key = ''] = /\s--sort[= ]([+-]?)(\S+)/.exec(` ${args}`) ?? [];
  const columns = columnsOf(` ${args}`.replace(/\s--sort[= ]\S+/, '').trim(), args);
  const column = COLUMNS[key.toUpperCase()];
  if (key !== '' && column === undefined) throw unsupported(args);
  return { columns, ...(column && { sort: { column, descending: sign === '-' } }) };
}

const unsupported = (args: string): CaissonError =>
  new CaissonError('NotImplemented', `top: ps arguments "${args}" are not supported by caisson`, {
    hint: `use -ef, aux or -o with a list of ${Object.keys(COLUMNS).join(', ').toLowerCase()}, and --sort with one of them`,
  });

function columnsOf(text: string, args: string): string[] {
  if (/^-?e?f$|^-ef$|^$/.test(text)) return FULL;
  if (/^-?aux$/.test(text)) return BSD;
  const listed = /^(?:-e\s*)?-?(?:eo|o)\s+(\S+)$/.exec(text)?.[1];
  const names = listed?.split(',').map((name) => name.toUpperCase()) ?? [];
  const unknown = names.find((name) => !Object.hasOwn(COLUMNS, name));
  if (names.length === 0 || unknown !== undefined) throw unsupported(args);
  if (!names.includes('PID')) throw new CaissonError('InvalidParameter', "Couldn't find PID field in ps output");
  return names;
}

export async function top(ctx: ContainerContext, idOrName: string, args: string): Promise<object> {
  const { row, hostConfig } = readRecord(ctx.graph.containers.resolve(idOrName));
  if (row.status === 'restarting')
    throw new CaissonError('Conflict', `Container ${row.id} is restarting, wait until the container is running`);
  if (!isRunning(row)) throw new CaissonError('Conflict', `container ${row.id} is not running`);
  const { columns, sort } = parseArguments(args);
  const titles = columns === FULL || columns === BSD ? { BSDTIME: 'TIME' } : HEADINGS;
  const uptimeS = Number(readFileSync('/proc/uptime', 'latin1').split(' ')[0]);
  const host: Host = { users: hostUsers(), bootMs: Date.now() - uptimeS * 1000, memoryKb: totalmem() / 1024 };
  const pids = await ctx.native.cgroupPids(cgroupOf(ctx, hostConfig, row.id));
  const processes = pids.map(readProcess).filter((process) => process !== undefined);
  processes.sort((a, b) => a.pid - b.pid);
  if (sort) {
    const { column, descending } = sort;
    const key = (process: Process): string => column(process, host);
    processes.sort((a, b) => (descending ? -1 : 1) * key(a).localeCompare(key(b), 'en', { numeric: true }));
  }
  return {
    Titles: columns.map((name) => Reflect.get(titles, name) ?? name),
    Processes: processes.map((process) => columns.map((name) => COLUMNS[name]?.(process, host) ?? '')),
  };
}
