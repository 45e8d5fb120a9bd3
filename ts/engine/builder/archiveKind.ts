/** Whether a file that ADD takes is an archive to unpack. Told by its bytes, as tar tells it, never by its name. */
import { open } from 'node:fs/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { CaissonError } from '../../errdefs.ts';

const MAGIC = {
  gzip: [0x1f, 0x8b],
  zstd: [0x28, 0xb5, 0x2f, 0xfd],
  xz: [0xfd, 0x37, 0x7a, 0x58, 0x5a],
  bzip2: [0x42, 0x5a, 0x68],
} as const;

/** Throws for an archive in a compression that cannot be read here. */
export async function archiveKind(path: string): Promise<'archive' | 'file'> {
  const file = await open(path, 'r');
  try {
    const head = Buffer.alloc(64 * 1024);
    const { bytesRead } = await file.read(head, 0, head.length, 0);
    const bytes = head.subarray(0, bytesRead);
    const [kind] = Object.entries(MAGIC).find(([, magic]) => magic.every((byte, i) => bytes[i] === byte)) ?? ['none'];
    if ((kind === 'xz' || kind === 'bzip2') && /\.t(ar\.)?(xz|txz|bz2?|tbz2?)$/.test(path))
      throw new CaissonError('NotImplemented', `ADD of an archive compressed with ${kind} is not supported`, {
        hint: 'compress it with gzip or zstd, or not at all',
      });
    if (kind === 'none') return isTar(bytes) ? 'archive' : 'file';
    if (kind === 'xz' || kind === 'bzip2') return 'file';
    return isTar(await beginning(kind === 'gzip' ? createGunzip() : createZstdDecompress(), bytes))
      ? 'archive'
      : 'file';
  } finally {
    await file.close();
  }
}

/** The sum over the header's bytes, its own field taken as spaces. */
function isTar(head: Buffer): boolean {
  if (head.length < 512) return false;
  const stored = Number.parseInt(head.toString('latin1', 148, 156).replace(/[\0 ]/g, ''), 8);
  const header = Buffer.from(head.subarray(0, 512)).fill(' ', 148, 156);
  return header.reduce((sum, byte) => sum + byte, 0) === stored;
}

/** What the first bytes inflate to; as far as they go. */
function beginning(
  inflate: ReturnType<typeof createGunzip> | ReturnType<typeof createZstdDecompress>,
  bytes: Buffer,
): Promise<Buffer> {
  return new Promise((resolve) => {
    const parts: Buffer[] = [];
    const done = (): void => resolve(Buffer.concat(parts));
    inflate.on('data', (part: Buffer) => {
      parts.push(part);
      if (parts.reduce((sum, { length }) => sum + length, 0) >= 512) done();
    });
    inflate.on('end', done).on('error', done);
    inflate.write(bytes, () => setImmediate(done));
  });
}
