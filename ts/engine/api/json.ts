/**
 * Request bodies as JSON, strictly: bounded, one value, and no key twice in an object. Two readers of `{"a":1,"a":2}`
 * may see two different requests; JSON.parse alone would silently keep the last one.
 */
import { CaissonError } from '../../errdefs.ts';

export const BODY_LIMIT = 4 * 1024 * 1024;

const invalid = (message: string): CaissonError => new CaissonError('InvalidParameter', message);

/** Reads a whole body; more than `limit` bytes is refused, never cut. */
export async function readBody(stream: AsyncIterable<Buffer>, limit: number = BODY_LIMIT): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream) {
    size += chunk.length;
    if (size > limit) throw invalid(`request body is larger than the limit of ${limit} bytes`);
    chunks.push(chunk);
  }
  return chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks, size);
}

export function parseJson(body: Buffer): unknown {
  const text = body.toString('utf8');
  if (text.trim() === '') throw invalid('invalid JSON: got EOF while reading request body');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw invalid(`invalid JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  checkKeys(text);
  return value;
}

/** Walks a text that JSON.parse has accepted; so strings end and brackets match. */
function checkKeys(text: string): void {
  // One set of keys for each open object, null for an array.
  const open: (Set<string> | null)[] = [];
  let expectKey = false;
  for (let i = 0; i < text.length; i++) {
    const char = text.charCodeAt(i);
    if (char === 0x22) {
      const end = endOfString(text, i);
      const keys = open.at(-1);
      if (expectKey && keys) {
        const key = JSON.parse(text.slice(i, end + 1)) as string;
        if (keys.has(key)) throw invalid(`invalid JSON: the key ${JSON.stringify(key)} appears twice in one object`);
        if (key === '__proto__') throw invalid('invalid JSON: the key "__proto__" is not allowed');
        keys.add(key);
        expectKey = false;
      }
      i = end;
    } else if (char === 0x7b) {
      open.push(new Set());
      expectKey = true;
    } else if (char === 0x5b) {
      open.push(null);
      expectKey = false;
    } else if (char === 0x7d || char === 0x5d) {
      open.pop();
      expectKey = false;
    } else if (char === 0x2c) {
      expectKey = open.at(-1) != null;
    }
  }
}

/** Index of the closing quote of the string that opens at `start`. */
function endOfString(text: string, start: number): number {
  for (let i = start + 1; ; i++) {
    const char = text.charCodeAt(i);
    if (char === 0x5c) i++;
    else if (char === 0x22) return i;
  }
}
