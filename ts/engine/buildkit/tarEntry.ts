/** An entry of a client's files, and the same in an archive. */
import { Header, type HeaderData } from 'tar';
import type { Stat } from './proto/filesync_pb.ts';

type Kind = 'File' | 'Directory' | 'SymbolicLink' | 'Link' | 'FIFO' | 'CharacterDevice' | 'BlockDevice';

/** Bits of Go's os.FileMode. */
const DIR = 1 << 31;
const SYMLINK = 1 << 27;
const DEVICE = 1 << 26;
const PIPE = 1 << 25;
const SETUID = 1 << 23;
const SETGID = 1 << 22;
const CHARACTER = 1 << 21;
const STICKY = 1 << 20;
const ANY_KIND = DIR | SYMLINK | DEVICE | PIPE | (1 << 24) | CHARACTER | (1 << 19);

/** A file whose content can be asked for. */
export const isRegular = ({ mode }: Stat): boolean => (mode & ANY_KIND) === 0;

/** A name in another directory for a file that came before. */
export const isHardlink = (stat: Stat): boolean => isRegular(stat) && stat.linkname !== '';

/** Go's mode of what an archive's entry is. */
export function goMode(type: string, mode: number): number {
  const kinds: Record<string, number> = {
    Directory: DIR,
    SymbolicLink: SYMLINK,
    FIFO: PIPE,
    BlockDevice: DEVICE,
    CharacterDevice: DEVICE | CHARACTER,
  };
  const bits = (mode & 0o4000 ? SETUID : 0) | (mode & 0o2000 ? SETGID : 0) | (mode & 0o1000 ? STICKY : 0);
  return ((kinds[type] ?? 0) | bits | (mode & 0o777)) >>> 0;
}

export function kindOf(stat: Stat): Kind {
  const { mode } = stat;
  if (mode & DIR) return 'Directory';
  if (mode & SYMLINK) return 'SymbolicLink';
  if (mode & PIPE) return 'FIFO';
  if (mode & DEVICE) return mode & CHARACTER ? 'CharacterDevice' : 'BlockDevice';
  return isHardlink(stat) ? 'Link' : 'File';
}

/** What stands in front of an entry's content. */
export function entryHead(stat: Stat): Buffer {
  const { mode, path, linkname } = stat;
  const type = kindOf(stat);
  const size = type === 'File' ? Number(stat.size) : 0;
  const records = Object.entries(stat.xattrs).map(([name, value]): [string, Uint8Array] => [
    `SCHILY.xattr.${name}`,
    value,
  ]);
  if (Buffer.byteLength(path) > 99) records.push(['path', Buffer.from(path)]);
  if (Buffer.byteLength(linkname) > 99) records.push(['linkpath', Buffer.from(linkname)]);
  const bits = (mode & SETUID ? 0o4000 : 0) | (mode & SETGID ? 0o2000 : 0) | (mode & STICKY ? 0o1000 : 0);
  const header = {
    type,
    path: shortened(path),
    linkpath: type === 'SymbolicLink' || type === 'Link' ? shortened(linkname) : '',
    mode: (mode & 0o777) | bits,
    uid: stat.uid,
    gid: stat.gid,
    size,
    mtime: new Date(Number(stat.modTime / 1_000_000n)),
    devmaj: Number(stat.devmajor),
    devmin: Number(stat.devminor),
  };
  if (records.length === 0) return block(header);
  const body = Buffer.concat(records.map(([key, value]) => record(key, value)));
  const extended = block({ type: 'ExtendedHeader', path: 'pax', mode: 0o644, size: body.length, mtime: header.mtime });
  return Buffer.concat([extended, body, padding(body.length), block(header)]);
}

/** Zeros up to the next block. */
export const padding = (size: number): Buffer => Buffer.alloc((512 - (size % 512)) % 512);

export const END_OF_ARCHIVE = Buffer.alloc(1024);

/** A name that is too long stands in a record in front. */
const shortened = (name: string): string => (Buffer.byteLength(name) <= 99 ? name : name.slice(0, 24));

function block(data: HeaderData): Buffer {
  const bytes = Buffer.alloc(512);
  new Header(data).encode(bytes, 0);
  return bytes;
}

/** `<length of all this> key=value` and a newline. */
function record(key: string, value: Uint8Array): Buffer {
  const rest = key.length + value.length + 3;
  let length = rest + String(rest).length;
  if (String(length).length > String(rest).length) length = rest + String(length).length;
  return Buffer.concat([Buffer.from(`${length} ${key}=`), value, Buffer.from('\n')]);
}
