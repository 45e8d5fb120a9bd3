/**
 * The signature policy: a file in the format of containers-policy.json(5), read anew for each pull, so that a change counts
 * at once. Of its transports `docker` is the one that there is here. One kind of signed identity is ours: `matchDigest`
 * takes signatures that name no repository (cosign's bundles).
 *
 * The reader is as strict as the format asks for: what it does not know is an error, never a requirement less.
 */
import { createPublicKey, type KeyObject, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { CaissonError } from '../../../errdefs.ts';
import { type Reference, repositoryOf, withDefaultTag } from '../../../reference.ts';
import { parseStrictly } from '../../../strictJson.ts';
import { readIdentity, type SignedIdentity } from './identity.ts';

export interface SigstoreSigned {
  type: 'sigstoreSigned';
  /** One of them signs; with `fulcio` there is none. */
  keys: KeyObject[];
  /** A certificate of these authorities, for this subject as this issuer vouches, signs. */
  fulcio: { authorities: X509Certificate[]; issuer: string; subject: string } | undefined;
  /** One of these logs has recorded the signature; empty: that is not asked. */
  logs: KeyObject[];
  identity: SignedIdentity;
}

export type Requirement = { type: 'insecureAcceptAnything' } | { type: 'reject' } | SigstoreSigned;

export interface Chosen {
  /** Where the requirements stand, for messages. */
  place: string;
  requirements: Requirement[];
}

type Json = Record<string, unknown>;
type Fail = (problem: string) => CaissonError;

export class SignaturePolicy {
  readonly #default: Requirement[];
  readonly #docker: ReadonlyMap<string, Requirement[]>;

  private constructor(byDefault: Requirement[], docker: ReadonlyMap<string, Requirement[]>) {
    this.#default = byDefault;
    this.#docker = docker;
  }

  /** With the keys that it names. Kind InvalidParameter, naming the file and the place in it. */
  static async read(path: string): Promise<SignaturePolicy> {
    const fail: Fail = (problem) =>
      new CaissonError('InvalidParameter', `signature policy ${path}: ${problem}`, {
        code: 'SIGNATURE_POLICY_INVALID',
        path,
        hint: 'its format is that of containers-policy.json(5)',
      });
    const text = await readFile(path, 'utf8').catch((error: Error) => {
      throw fail(error.message);
    });
    const document = object(parse(text, fail), 'the policy', ['default', 'transports'], fail);
    const transports = object(document['transports'] ?? {}, 'transports', undefined, fail);
    const docker = new Map<string, Requirement[]>();
    for (const [transport, scopes] of Object.entries(transports))
      for (const [scope, list] of Object.entries(object(scopes, `transports.${transport}`, undefined, fail)))
        if (transport === 'docker') docker.set(scope, await readList(list, `docker ${JSON.stringify(scope)}`, fail));
    if (document['default'] === undefined) throw fail('"default" is missing');
    return new SignaturePolicy(await readList(document['default'], '"default"', fail), docker);
  }

  /** Those of the narrowest scope that the image is in. */
  requirements(reference: Reference): Chosen {
    for (const scope of scopesOf(reference)) {
      const requirements = this.#docker.get(scope);
      if (requirements !== undefined) return { place: `scope ${JSON.stringify(scope)}`, requirements };
    }
    return { place: 'default', requirements: this.#default };
  }
}

/** `host:5000/a/b:tag`, `host:5000/a/b`, `host:5000/a`, `host:5000`, `*.parent:5000`, …, ``. */
function scopesOf(reference: Reference): string[] {
  const { digest, tag } = withDefaultTag(reference);
  const repository = repositoryOf(reference);
  const scopes = [digest === undefined ? `${repository}:${tag}` : `${repository}@${digest}`];
  for (let rest = repository; ; rest = rest.slice(0, rest.lastIndexOf('/'))) {
    scopes.push(rest);
    if (!rest.includes('/')) break;
  }
  for (let host = reference.domain; host.includes('.'); ) {
    host = host.slice(host.indexOf('.') + 1);
    scopes.push(`*.${host}`);
  }
  return [...scopes, ''];
}

async function readList(list: unknown, place: string, fail: Fail): Promise<Requirement[]> {
  if (!Array.isArray(list) || list.length === 0) throw fail(`${place} is no list of requirements`);
  return Promise.all(list.map((one: unknown, i) => readRequirement(one, `${place}, requirement ${i + 1}`, fail)));
}

const KEY_FIELDS = ['keyPath', 'keyPaths', 'keyData', 'keyDatas'] as const;
const LOG_FIELDS = ['rekorPublicKeyPath', 'rekorPublicKeyPaths', 'rekorPublicKeyData', 'rekorPublicKeyDatas'] as const;
const FULCIO_FIELDS = ['caPath', 'caData'] as const;

async function readRequirement(value: unknown, place: string, fail: Fail): Promise<Requirement> {
  const { type } = object(value, place, undefined, fail);
  if (type === 'insecureAcceptAnything' || type === 'reject') {
    object(value, place, ['type'], fail);
    return { type };
  }
  if (type === 'signedBy') throw fail(`${place}: signedBy (GPG) is not supported: sigstoreSigned is`);
  if (type !== 'sigstoreSigned') throw fail(`${place}: unknown type ${JSON.stringify(type)}`);
  const fields = ['type', ...KEY_FIELDS, ...LOG_FIELDS, 'fulcio', 'signedIdentity'];
  if ('pki' in (value as Json)) throw fail(`${place}: "pki" is not supported: keys and fulcio are`);
  const requirement = object(value, place, fields, fail);
  const keys = await readPems(requirement, KEY_FIELDS, place, fail);
  const logs = await readPems(requirement, LOG_FIELDS, place, fail);
  const { fulcio } = requirement;
  if ((keys === undefined) === (fulcio === undefined))
    throw fail(`${place}: exactly one of ${KEY_FIELDS.join(', ')} and fulcio is needed`);
  if (fulcio !== undefined && logs === undefined)
    throw fail(`${place}: fulcio needs one of ${LOG_FIELDS.join(', ')}, whose log tells when it was signed`);
  return {
    type,
    keys: (keys ?? []).map((pem) => publicKey(pem, place, fail)),
    logs: (logs ?? []).map((pem) => publicKey(pem, place, fail)),
    fulcio: fulcio === undefined ? undefined : await readFulcio(fulcio, place, fail),
    identity: readIdentity(requirement['signedIdentity'], (problem) => fail(`${place}: ${problem}`)),
  };
}

async function readFulcio(value: unknown, place: string, fail: Fail): Promise<SigstoreSigned['fulcio']> {
  const fulcio = object(value, `${place}, fulcio`, [...FULCIO_FIELDS, 'oidcIssuer', 'subjectEmail'], fail);
  const { oidcIssuer: issuer, subjectEmail: subject } = fulcio;
  const pems = await readPems(fulcio, FULCIO_FIELDS, `${place}, fulcio`, fail);
  if (pems === undefined) throw fail(`${place}: fulcio needs one of ${FULCIO_FIELDS.join(', ')}`);
  if (typeof issuer !== 'string' || typeof subject !== 'string' || issuer === '' || subject === '')
    throw fail(`${place}: fulcio needs oidcIssuer and subjectEmail`);
  const authorities = pems.flatMap((pem) => certificates(pem, (problem) => fail(`${place}, fulcio: ${problem}`)));
  return { authorities, issuer, subject };
}

/** Contents of the one field that is given: paths of files, or base64. */
async function readPems(
  given: Json,
  fields: readonly string[],
  place: string,
  fail: Fail,
): Promise<string[] | undefined> {
  const [field, second] = fields.filter((name) => given[name] !== undefined);
  if (second !== undefined) throw fail(`${place}: both ${field} and ${second} are given`);
  if (field === undefined) return undefined;
  const value = given[field];
  const values: unknown[] = field.endsWith('s') && Array.isArray(value) ? value : [value];
  if (values.length === 0) throw fail(`${place}: ${field} is empty`);
  return Promise.all(
    values.map((one) => {
      if (typeof one !== 'string' || one === '') throw fail(`${place}: ${field} is no text`);
      if (/Datas?$/.test(field)) return Buffer.from(one, 'base64').toString();
      return readFile(one, 'utf8').catch((error: Error) => {
        throw fail(`${place}: ${field}: ${error.message}`);
      });
    }),
  );
}

function publicKey(pem: string, place: string, fail: Fail): KeyObject {
  let key: KeyObject;
  try {
    if (!pem.includes('-----BEGIN PUBLIC KEY-----')) throw new Error('no PEM text of a public key');
    key = createPublicKey(pem);
  } catch (error) {
    throw fail(`${place}: a key cannot be read: ${(error as Error).message}`);
  }
  const { asymmetricKeyType: type } = key;
  if (type !== 'ec' && type !== 'rsa') throw fail(`${place}: a key of type ${type}, where ECDSA and RSA are supported`);
  return key;
}

export function certificates(pem: string, fail: Fail): X509Certificate[] {
  const found = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  if (found.length === 0) throw fail('no PEM text of a certificate');
  try {
    return found.map((one) => new X509Certificate(one));
  } catch (error) {
    throw fail(`a certificate cannot be read: ${(error as Error).message}`);
  }
}

function parse(text: string, fail: Fail): unknown {
  try {
    return parseStrictly(text);
  } catch (error) {
    throw fail((error as Error).message);
  }
}

/** `keys`: those that there may be. */
export function object(value: unknown, name: string, keys: readonly string[] | undefined, fail: Fail): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw fail(`${name} is no object`);
  const unknown = keys && Object.keys(value).find((key) => !keys.includes(key));
  if (unknown !== undefined) throw fail(`${name}: unknown field ${JSON.stringify(unknown)}`);
  return value as Json;
}
