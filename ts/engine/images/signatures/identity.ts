/** Which image a signature says that it is for, compared with the one that is pulled. */
import { asCaissonError, type CaissonError } from '../../../errdefs.ts';
import { parseReference, type Reference, repositoryOf } from '../../../reference.ts';

export type SignedIdentity =
  | { type: 'matchDigest' }
  | { type: 'matchExact' | 'matchRepoDigestOrExact' | 'matchRepository' }
  | { type: 'exactReference'; dockerReference: string }
  | { type: 'exactRepository'; dockerRepository: string }
  | { type: 'remapIdentity'; prefix: string; signedPrefix: string };

const FIELDS: Record<SignedIdentity['type'], readonly string[]> = {
  matchExact: [],
  matchRepoDigestOrExact: [],
  matchRepository: [],
  matchDigest: [],
  exactReference: ['dockerReference'],
  exactRepository: ['dockerRepository'],
  remapIdentity: ['prefix', 'signedPrefix'],
};

/** `signedIdentity` of a requirement; absent: `matchRepoDigestOrExact`. */
export function readIdentity(value: unknown, fail: (problem: string) => CaissonError): SignedIdentity {
  if (value === undefined) return { type: 'matchRepoDigestOrExact' };
  const { type, ...given } = Object(value) as Record<string, unknown>;
  const fields = typeof type === 'string' && Object.hasOwn(FIELDS, type) ? FIELDS[type as SignedIdentity['type']] : [];
  if (typeof type !== 'string' || !Object.hasOwn(FIELDS, type))
    throw fail(`unknown signedIdentity ${JSON.stringify(type)}: ${Object.keys(FIELDS).join(', ')} are known`);
  const unknown = Object.keys(given).find((name) => !fields.includes(name));
  if (unknown !== undefined) throw fail(`signedIdentity ${type}: unknown field ${JSON.stringify(unknown)}`);
  for (const name of fields)
    if (typeof given[name] !== 'string' || given[name] === '') throw fail(`signedIdentity ${type} needs ${name}`);
  const identity = { type, ...given } as SignedIdentity;
  try {
    if (identity.type === 'exactReference') parseReference(identity.dockerReference);
    if (identity.type === 'exactRepository') parseReference(identity.dockerRepository);
  } catch (error) {
    throw fail(`signedIdentity ${type}: ${asCaissonError(error).message}`);
  }
  return identity;
}

/** Why the claimed name does not do for the image; undefined when it does. */
export function identityProblem(
  identity: SignedIdentity,
  image: Reference,
  claimed: string | undefined,
): string | undefined {
  if (identity.type === 'matchDigest') return undefined;
  if (claimed === undefined) return 'it names no repository, which only the signedIdentity matchDigest accepts';
  let signed: Reference;
  try {
    signed = parseReference(claimed);
  } catch {
    return `it is for ${JSON.stringify(claimed.slice(0, 300))}, which is no reference`;
  }
  if (identity.type === 'matchExact' && image.digest !== undefined)
    return 'its tag cannot be compared with an image that is pulled by digest, as matchExact asks';
  const { repository, tag } = wantedName(identity, image);
  const isIt = repositoryOf(signed) === repository && (tag === undefined || signed.tag === tag);
  const wanted = tag === undefined ? repository : `${repository}:${tag}`;
  return isIt ? undefined : `it is for ${claimed.slice(0, 300)}, not for ${wanted}`;
}

interface WantedName {
  repository: string;
  /** Absent: any. */
  tag: string | undefined;
}

function wantedName(identity: Exclude<SignedIdentity, { type: 'matchDigest' }>, image: Reference): WantedName {
  const name = repositoryOf(image);
  // a pull by digest says nothing of tags
  const tag = image.digest === undefined ? (image.tag ?? 'latest') : undefined;
  switch (identity.type) {
    case 'matchRepository':
      return { repository: name, tag: undefined };
    case 'exactRepository':
      return { repository: repositoryOf(parseReference(identity.dockerRepository)), tag: undefined };
    case 'exactReference': {
      const reference = parseReference(identity.dockerReference);
      return { repository: repositoryOf(reference), tag: reference.tag ?? 'latest' };
    }
    case 'matchExact':
    case 'matchRepoDigestOrExact':
      return { repository: name, tag };
    case 'remapIdentity': {
      const { prefix, signedPrefix } = identity;
      const isBelow = name === prefix || name.startsWith(`${prefix}/`);
      return { repository: isBelow ? signedPrefix + name.slice(prefix.length) : name, tag };
    }
  }
}
