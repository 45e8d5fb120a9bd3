/** Request bodies as JSON, strictly: bounded, one value, and no key twice in an object. */
import { CaissonError } from '../../errdefs.ts';
import { parseStrictly } from '../../strictJson.ts';

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
  try {
    return parseStrictly(text);
  } catch (error) {
    throw invalid(`invalid JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
}
