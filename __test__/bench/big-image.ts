/** The layers of the pull benchmark: 7 layers, 45,000 files, about 1 GB, half as large when compressed; the same bytes each time. */
import { Header } from 'tar';

/** A small xorshift: reproducible bytes that compress about as well as programs do. */
function* bytes(seed: number): Generator<number> {
  let x = seed;
  for (;;) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    yield x >>> 0;
  }
}

function content(size: number, random: Generator<number>): Buffer {
  const data = Buffer.alloc(size);
  for (let at = 0; at < size; ) {
    const value = random.next().value as number;
    const run = 4 + (value & 15);
    // every second run repeats one byte: deflate halves it
    if (value & 16) data.fill(value >>> 24, at, Math.min(at + run, size));
    else
      for (let i = 0; i < run && at + i < size; i += 4)
        data.writeUInt32LE(random.next().value as number, Math.min(at + i, Math.max(size - 4, 0)));
    at += run;
  }
  return data;
}

function entry(path: string, type: 'File' | 'Directory', data: Buffer): Buffer {
  const header = new Header({
    path,
    type,
    mode: type === 'File' ? 0o644 : 0o755,
    uid: 0,
    gid: 0,
    size: data.length,
    mtime: new Date(1_700_000_000_000),
  });
  const block = Buffer.alloc(512);
  header.encode(block);
  return Buffer.concat([block, data, Buffer.alloc((512 - (data.length % 512)) % 512)]);
}

export function manyFileLayers(layers = 7, filesPerLayer = 6430, meanBytes = 22_000): Buffer[] {
  return Array.from({ length: layers }, (_, layer) => {
    const random = bytes(layer + 1);
    const parts: Buffer[] = [];
    for (let file = 0; file < filesPerLayer; file++) {
      if (file % 64 === 0) parts.push(entry(`l${layer}/d${file >> 6}/`, 'Directory', Buffer.alloc(0)));
      const size = 16 + ((random.next().value as number) % (2 * meanBytes));
      parts.push(entry(`l${layer}/d${file >> 6}/f${file}`, 'File', content(size, random)));
    }
    parts.push(Buffer.alloc(1024));
    return Buffer.concat(parts);
  });
}
