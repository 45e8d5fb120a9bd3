/** One call of a plugin: a POST of JSON, answered with JSON. */
import { request as plainRequest, type RequestOptions } from 'node:http';
import { request as secureRequest } from 'node:https';
import type { SecureContextOptions } from 'node:tls';
import { CaissonError } from '../../errdefs.ts';

export type PluginAddress =
  | { socketPath: string }
  | { host: string; port: number; tls?: SecureContextOptions & { rejectUnauthorized?: boolean } };

const MEDIA_TYPE = 'application/vnd.docker.plugins.v1.2+json';
const TIMEOUT_MS = 30_000;
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;

/** The plugin has answered: no. */
export class PluginRefusal extends CaissonError {
  /** Its own words, where it answered by the protocol; with the method's name otherwise. */
  readonly said: string;

  constructor(message: string, said = message) {
    super('System', message, { code: 'PLUGIN_FAILED' });
    this.said = said;
  }
}

/** Kind System, with the method's name, for whatever goes wrong; a PluginRefusal for an answer that says so. */
export async function callPlugin(
  address: PluginAddress,
  method: string,
  body: object,
): Promise<Record<string, unknown>> {
  const failed = (why: string, cause?: unknown, code = 'PLUGIN_FAILED'): CaissonError =>
    new CaissonError('System', `${method}: ${why}`, { code, cause });
  const { status, text } = await post(address, method, JSON.stringify(body)).catch((error: Error) => {
    const listens = !['ECONNREFUSED', 'ENOENT'].includes((error as NodeJS.ErrnoException).code ?? '');
    throw failed(error.message, error, listens ? 'PLUGIN_FAILED' : 'PLUGIN_NOT_LISTENING');
  });
  const answer = parse(text);
  const said = answer?.['Err'];
  if (typeof said === 'string' && said !== '') throw new PluginRefusal(`${method}: ${said}`, said);
  if (status !== 200) throw new PluginRefusal(`${method}: ${text.trim() || `status ${status}`}`);
  if (answer === undefined) throw failed(`the answer is not a JSON object: ${JSON.stringify(text.slice(0, 200))}`);
  return answer;
}

function parse(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(firstObject(text));
    // Go's encoder writes null for a nil map, and Docker's reads it as an object without fields
    if (value === null) return {};
    return typeof value === 'object' ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/** As Docker's decoder, which reads one value and not what a plugin has written behind it. */
function firstObject(text: string): string {
  let depth = 0;
  for (const { 0: token, index } of text.matchAll(/"(?:[^"\\]|\\.)*"|[{}]/g)) {
    if (token === '{') depth++;
    else if (token === '}' && --depth === 0) return text.slice(0, index + 1);
  }
  return text;
}

function post(address: PluginAddress, method: string, body: string): Promise<{ status: number; text: string }> {
  const tls = 'tls' in address ? address.tls : undefined;
  const options: RequestOptions = {
    ...('socketPath' in address ? address : { host: address.host, port: address.port }),
    ...tls,
    method: 'POST',
    path: `/${method}`,
    headers: { Accept: MEDIA_TYPE, 'Content-Type': MEDIA_TYPE, 'Content-Length': Buffer.byteLength(body) },
    signal: AbortSignal.timeout(TIMEOUT_MS),
  };
  return new Promise((resolve, reject) => {
    const sent = (tls ? secureRequest : plainRequest)(options, (response) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > MAX_ANSWER_BYTES) response.destroy(new Error(`the answer has more than ${MAX_ANSWER_BYTES} bytes`));
        else chunks.push(chunk);
      });
      response.on('error', reject);
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }));
    });
    sent.on('error', reject);
    sent.end(body);
  });
}
