/** Differences that are meant, each with its reason. All others are mistakes of ours. */
import type { Answered, Asked } from './ask.ts';

interface Justified {
  why: string;
  holds(asked: Asked, theirs: Answered, ours: Answered): boolean;
}

const failed = ({ status }: Answered): boolean => status >= 400;
const refused = (what: RegExp, status = 400): Justified['holds'] => {
  return ({ body = '' }, theirs, ours) => !failed(theirs) && ours.status === status && what.test(String(body));
};

export const JUSTIFIED: readonly Justified[] = [
  {
    why: 'What a client has done wrong is no error of the server.',
    holds: (_, theirs, ours) => theirs.status === 500 && ours.status >= 400 && ours.status !== 500,
  },
  {
    why: 'An error is always JSON; dockerd answers old clients, and what it finds before its routes, in plain text.',
    holds: (_, theirs, ours) => failed(theirs) && theirs.status === ours.status && ours.type === 'application/json',
  },
  {
    why: 'An answer of dockerd that is no HTTP.',
    holds: (_, theirs, ours) => theirs.status === 0 && ours.status === 400,
  },
  {
    why: 'A stream of readings says that it is JSON.',
    holds: ({ path }, theirs, ours) =>
      path.includes('/stats') && theirs.status === 200 && ours.status === 200 && theirs.type === '',
  },
  {
    why: 'A key that stands twice in one object is refused: two readers of it would not see the same.',
    holds: (_, __, ours) => ours.status === 400 && ours.text.includes('appears twice'),
  },
  {
    why: 'A path that can be read in two ways (`..`, `//`, a NUL, bytes that are not ASCII) is refused, not repaired.',
    holds: ({ path }, theirs, ours) =>
      [301, 404].includes(theirs.status) && ours.status === 400 && /\/\/|\/\.\.?(\/|\?|$)|%00|[^ -~]/.test(path),
  },
  {
    why: 'A body of JSON may have 4 MiB, also where dockerd takes more.',
    holds: ({ body = '' }, _, ours) => body.length > 4 * 1024 * 1024 && ours.text.includes('larger than the limit'),
  },
  {
    why: 'What the start would refuse is refused at create.',
    holds: refused(
      /"(Test|Dns|Sysctls|DeviceCgroupRules|WorkingDir|MemoryReservation|MemorySwap|CpuShares|BlkioWeight)"/,
    ),
  },
  { why: 'A container is made from an image.', holds: refused(/"Image":(""|null)/) },
  {
    why: 'A size has two numbers.',
    holds: ({ body = '' }, _, ours) => ours.status === 400 && /"ConsoleSize":\[5?\]/.test(String(body)),
  },
  {
    why: 'Nothing is named: dockerd makes nothing of it and says that this went well.',
    holds: ({ path }, theirs, ours) =>
      /\/tag|\/images\/get$/.test(path) && theirs.status === 200 && ours.status === 400,
  },
  {
    why: 'Fields of our own, which dockerd does not read.',
    holds: refused(/"(PublishAdd|PublishRemove|Runtime)"/),
  },
  {
    why: 'What caisson does not have is refused by name where dockerd passes over it or has it.',
    holds: (_, theirs, ours) => ours.status === 501 && theirs.status !== 500,
  },
  {
    why: 'Who already has run is answered before the connection is taken, with a status.',
    holds: ({ path }, theirs, ours) => path.includes('/exec/') && theirs.status === 200 && ours.status === 409,
  },
];

/** Fields of answers that only one of the two has, or has otherwise. A line of `difference` that matches is passed over. */
export const FIELDS: readonly { why: string; line: RegExp }[] = [
  {
    why: 'Parts that dockerd has and caisson has not: containerd, runc, settings of theirs.',
    line: /^-\.(Containerd|Runtimes|RuncCommit\.Expected|KernelMemory(TCP)?:|RegistryConfig\.AllowNondistributable)/,
  },
  { why: 'Our own runtime.', line: /^\+\.Runtimes\.caisson/ },
  { why: 'The firewall is told of to older clients too.', line: /^\+\.FirewallBackend/ },
  { why: 'Directories count in the size of a layer, as du counts them; so few sizes are 0.', line: /\.SizeRw:number$/ },
  { why: 'A reading has the name and id of its container also with one-shot.', line: /^\+\.(name|id):string$/ },
  {
    why: 'Fields of an image that Docker has taken out since and shows to older clients; nobody was found who reads them.',
    line: /^-\.(ContainerConfig|Container:|Config\.(Attach|Domainname|Hostname|Image|OpenStdin|StdinOnce|Tty)|(Images\[\]\.)?VirtualSize:)/,
  },
  { why: 'A layer of an image is one directory.', line: /^-\.GraphDriver\.Data\./ },
  { why: 'What the disk has or has not done meanwhile.', line: /^.\.blkio_stats\./ },
  { why: 'The reading before is the one of this daemon, if there was one.', line: /^.\.precpu_stats\./ },
  { why: 'All numbers of memory.stat, not only those that one library knows.', line: /^\+\.memory_stats\.stats\./ },
];
