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
    const { message } = error as Error;
    throw invalid(error instanceof SyntaxError ? syntaxError(text, message) : `invalid JSON: ${message}`);
  }
}

/** What V8 expected → how Go, whose texts clients know, says where the character stands. */
const EXPECTED: [v8: string, go: string][] = [
  ["property name or '}'", 'looking for beginning of object key string'],
  ['double-quoted property name', 'looking for beginning of object key string'],
  ["':' after property name", 'after object key'],
  ["',' or '}'", 'after object key:value pair'],
  ["',' or ']'", 'after array element'],
];

function syntaxError(text: string, message: string): string {
  const at = Number(/ at position (\d+)/.exec(message)?.[1] ?? Number.NaN);
  if (message.includes('after JSON')) return 'unexpected content after JSON';
  if (message.startsWith('Unterminated') || message.includes('end of JSON') || at >= text.length)
    return 'invalid JSON: unexpected EOF';
  const [, unexpected] = /^Unexpected token '(.)'/u.exec(message) ?? [];
  if (unexpected !== undefined) return `invalid JSON: invalid character '${unexpected}' looking for beginning of value`;
  const where = EXPECTED.find(([expected]) => message.startsWith(`Expected ${expected}`))?.[1];
  if (where === undefined || Number.isNaN(at)) return `invalid JSON: ${message}`;
  return `invalid JSON: invalid character '${text[at]}' ${where}`;
}
