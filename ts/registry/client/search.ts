/** `docker search`: the search of Docker Hub, or of a registry that has kept the old index's API. */
import { CaissonError } from '../../errdefs.ts';
import type { Credentials } from './auth.ts';
import { readSmall } from './body.ts';
import type { Endpoints } from './endpoints.ts';
import { answerError, corrupt, MAX_ERROR_BYTES } from './errors.ts';
import { retrying } from './retry.ts';
import type { RegistryTiming } from './settings.ts';
import type { Transport } from './transport.ts';

export interface SearchHit {
  name: string;
  description: string;
  starCount: number;
  isOfficial: boolean;
  isAutomated: boolean;
}

export interface SearchParts {
  transport: Transport;
  endpoints: Endpoints;
  timing: RegistryTiming;
}

const HUB_INDEX = 'https://index.docker.io';
const MAX_BYTES = 4 << 20;

/** A term may begin with a registry's host, as in `registry.example/tool`. */
function splitTerm(term: string): { domain: string; words: string } {
  if (term.includes('://'))
    throw new CaissonError(
      'InvalidParameter',
      `invalid repository name: repository name (${term}) should not have a scheme`,
    );
  const slash = term.indexOf('/');
  const first = slash < 0 ? '' : term.slice(0, slash);
  const isHost = first === 'localhost' || /[.:]/.test(first);
  return isHost ? { domain: first, words: term.slice(slash + 1) } : { domain: 'docker.io', words: term };
}

export async function search(
  { transport, endpoints, timing }: SearchParts,
  term: string,
  { limit, credentials = {}, signal }: { limit: number; credentials?: Credentials | undefined; signal: AbortSignal },
): Promise<SearchHit[]> {
  const { domain, words } = splitTerm(term);
  const base = domain === 'docker.io' ? new URL(HUB_INDEX) : (await endpoints.of(domain, signal)).at(-1)?.url;
  const url = new URL('/v1/search', base);
  url.searchParams.set('q', words);
  url.searchParams.set('n', String(limit));
  const { username, password } = credentials;
  const authorization = username
    ? `Basic ${Buffer.from(`${username}:${password ?? ''}`).toString('base64')}`
    : undefined;
  return retrying(timing, signal, async () => {
    const headers = { accept: 'application/json' };
    const answer = await transport.exchange(url, { headers, authorization, signal });
    const limits = { timeoutMs: timing.responseMs, signal };
    if (answer.status !== 200) {
      const text = await readSmall(answer, { ...limits, maxBytes: MAX_ERROR_BYTES, cut: true });
      throw answerError(answer, text.toString(), { domain, path: words }, timing.maxRetryAfterMs);
    }
    return hitsOf(await readSmall(answer, { ...limits, maxBytes: MAX_BYTES })).slice(0, limit);
  });
}

function hitsOf(body: Buffer): SearchHit[] {
  let results: unknown;
  try {
    results = (JSON.parse(body.toString()) as { results?: unknown }).results;
  } catch {
    // falls through to the one message
  }
  if (!Array.isArray(results)) throw corrupt('the registry answers a search with no list of results');
  return results.flatMap((entry: unknown): SearchHit[] => {
    const { name, description, star_count, is_official, is_automated } = (entry ?? {}) as Record<string, unknown>;
    if (typeof name !== 'string') return [];
    return [
      {
        name,
        description: typeof description === 'string' ? description : '',
        starCount: typeof star_count === 'number' ? star_count : 0,
        isOfficial: is_official === true,
        isAutomated: is_automated === true,
      },
    ];
  });
}
