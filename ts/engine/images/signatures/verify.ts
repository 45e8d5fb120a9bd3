/**
 * Is a signature one that a requirement accepts? Offline: keys, authorities and logs are those of the policy. What cosign
 * writes beside its payload is brought into the form of a sigstore bundle, so that both are verified by the same library.
 */
import { createHash, type KeyObject, type X509Certificate } from 'node:crypto';
import { bundleFromJSON, type SerializedBundle } from '@sigstore/bundle';
import { type SignedEntity, type TrustMaterial, toSignedEntity, toTrustMaterial, Verifier } from '@sigstore/verify';
import { CaissonError } from '../../../errdefs.ts';
import type { Reference } from '../../../reference.ts';
import { parseStrictly } from '../../../strictJson.ts';
import type { Evidence } from './find.ts';
import { identityProblem } from './identity.ts';
import { certificates, object, type SigstoreSigned } from './policy.ts';

/** What a signature says. */
interface Claim {
  digests: string[];
  /** A reference; undefined where it names none. */
  name: string | undefined;
}

interface Signed {
  claim: Claim;
  entity: SignedEntity;
  /** Beside the certificate: whoever signed has put them there. */
  intermediates: X509Certificate[];
}

const COSIGN_TYPE = 'cosign container image signature';
const STATEMENTS = ['https://in-toto.io/Statement/v1', 'https://in-toto.io/Statement/v0.1'];
/** Other statements about an image (what it was built of, what is in it) sign no more than that. */
const SIGN_PREDICATE = 'https://sigstore.dev/cosign/sign/v1';

const invalid = (problem: string): CaissonError => new CaissonError('InvalidParameter', problem);

/** Why not; undefined when it is accepted. `digests`: what it may be for. */
export function signatureProblem(
  evidence: Evidence,
  requirement: SigstoreSigned,
  image: Reference,
  digests: readonly string[],
): string | undefined {
  try {
    const signed = evidence.kind === 'cosign' ? readCosign(evidence) : readBundle(evidence.json);
    verify(signed, requirement);
    const { claim } = signed;
    if (!claim.digests.some((digest) => digests.includes(digest)))
      return `it is for ${claim.digests.join(', ').slice(0, 300)}, another image`;
    return identityProblem(requirement.identity, image, claim.name);
  } catch (error) {
    return (error as Error).message;
  }
}

function readCosign({ payload, annotations }: Extract<Evidence, { kind: 'cosign' }>): Signed {
  const signature = annotations['dev.cosignproject.cosign/signature'];
  if (signature === undefined) throw invalid('it has no annotation dev.cosignproject.cosign/signature');
  const certificate = annotations['dev.sigstore.cosign/certificate'];
  const chain = annotations['dev.sigstore.cosign/chain'];
  const digest = createHash('sha256').update(payload).digest('base64');
  const bundle: SerializedBundle = {
    mediaType: 'application/vnd.dev.sigstore.bundle+json;version=0.1',
    verificationMaterial: {
      ...(certificate === undefined
        ? { publicKey: { hint: '' } }
        : { x509CertificateChain: { certificates: pems(certificate).map(({ raw }) => rawBytes(raw)) } }),
      tlogEntries: logEntries(annotations['dev.sigstore.cosign/bundle']),
      timestampVerificationData: undefined,
    } as SerializedBundle['verificationMaterial'],
    messageSignature: { messageDigest: { algorithm: 'SHA2_256', digest }, signature },
    dsseEnvelope: undefined,
  };
  return {
    claim: cosignClaim(payload),
    entity: toSignedEntity(bundleFromJSON(bundle), payload),
    intermediates: chain === undefined ? [] : pems(chain),
  };
}

/** `{ critical: { type, image: { docker-manifest-digest }, identity: { docker-reference } }, optional }` */
function cosignClaim(payload: Buffer): Claim {
  const document = object(parseStrictly(payload.toString()), 'its payload', ['critical', 'optional'], invalid);
  const critical = object(document['critical'], 'critical', ['identity', 'image', 'type'], invalid);
  const image = object(critical['image'], 'image', ['docker-manifest-digest'], invalid);
  const identity = object(critical['identity'], 'identity', ['docker-reference'], invalid);
  const { 'docker-manifest-digest': digest } = image;
  const { 'docker-reference': name } = identity;
  if (critical['type'] !== COSIGN_TYPE || typeof digest !== 'string' || typeof name !== 'string')
    throw invalid(`its payload is no ${COSIGN_TYPE}`);
  return { digests: [digest], name: name === '' ? undefined : name };
}

/** Rekor's answer as cosign keeps it: `{ SignedEntryTimestamp, Payload: { body, integratedTime, logIndex, logID } }`. */
function logEntries(text: string | undefined): object[] {
  if (text === undefined) return [];
  const { SignedEntryTimestamp, Payload } = JSON.parse(text) as {
    SignedEntryTimestamp: string;
    Payload: { body: string; integratedTime: number; logIndex: number; logID: string };
  };
  const { kind, apiVersion } = JSON.parse(Buffer.from(Payload.body, 'base64').toString()) as Record<string, string>;
  return [
    {
      logIndex: String(Payload.logIndex),
      logId: { keyId: Buffer.from(Payload.logID, 'hex').toString('base64') },
      kindVersion: { kind, version: apiVersion },
      integratedTime: String(Payload.integratedTime),
      inclusionPromise: { signedEntryTimestamp: SignedEntryTimestamp },
      canonicalizedBody: Payload.body,
    },
  ];
}

function readBundle(json: Buffer): Signed {
  const bundle = bundleFromJSON(parseStrictly(json.toString()));
  if (bundle.content.$case !== 'dsseEnvelope') throw invalid('the bundle holds no statement (DSSE)');
  const { payload, payloadType } = bundle.content.dsseEnvelope;
  if (payloadType !== 'application/vnd.in-toto+json') throw invalid(`the bundle holds ${payloadType}, no statement`);
  const statement = parseStrictly(payload.toString()) as Record<string, unknown>;
  const { _type: type, predicateType, subject } = object(statement, 'its statement', undefined, invalid);
  if (!STATEMENTS.includes(String(type)) || predicateType !== SIGN_PREDICATE || !Array.isArray(subject))
    throw invalid(`its statement is ${JSON.stringify(predicateType)}, not ${SIGN_PREDICATE}`);
  const digests = subject.flatMap((one: unknown) => {
    const { digest } = object(one, 'its subject', undefined, invalid);
    return Object.entries(object(digest, 'its digest', undefined, invalid)).map(([name, hex]) => `${name}:${hex}`);
  });
  return { claim: { digests, name: undefined }, entity: toSignedEntity(bundle), intermediates: [] };
}

function verify({ entity, intermediates }: Signed, { keys, fulcio, logs }: SigstoreSigned): void {
  const isLogged = logs.length > 0;
  const verifier = (authorities: readonly X509Certificate[], findKey: () => KeyObject): Verifier =>
    new Verifier(trustMaterial(authorities, logs, findKey), {
      ctlogThreshold: 0,
      tlogThreshold: isLogged ? 1 : 0,
      timestampThreshold: fulcio === undefined ? 0 : 1,
    });
  const recorded = {
    signature: entity.signature,
    tlogEntries: isLogged ? entity.tlogEntries : [],
    // when a log has promised to have it: the policy names no other clocks
    timestamps: fulcio === undefined ? [] : entity.timestamps.filter(({ $case }) => $case === 'transparency-log'),
  };
  if (fulcio === undefined) {
    // A key of the policy, whatever the signature says of its own.
    const key = { $case: 'public-key', hint: '' } as const;
    const failures = keys.map((publicKey) =>
      failureOf(() => verifier([], () => publicKey).verify({ ...recorded, key })),
    );
    if (failures.every((failure) => failure !== undefined)) throw failures[0];
    return;
  }
  if (entity.key.$case !== 'certificate') throw invalid('it was made by a key, where a certificate is asked for');
  const authorities = [...fulcio.authorities, ...issued(intermediates, fulcio.authorities)];
  const none = (): never => {
    throw invalid('it has no certificate');
  };
  const { identity } = verifier(authorities, none).verify({ ...recorded, key: entity.key });
  const { subjectAlternativeName: subject, extensions } = identity ?? {};
  if (subject !== fulcio.subject || extensions?.issuer !== fulcio.issuer)
    throw invalid(
      `it is by ${subject} of ${extensions?.issuer}, not by ${fulcio.subject} of ${fulcio.issuer}`.slice(0, 500),
    );
}

function failureOf(verify: () => unknown): Error | undefined {
  try {
    verify();
    return undefined;
  } catch (error) {
    return error as Error;
  }
}

type TrustedRoot = Parameters<typeof toTrustMaterial>[0];

function trustMaterial(
  authorities: readonly X509Certificate[],
  logs: readonly KeyObject[],
  findKey: () => KeyObject,
): TrustMaterial {
  const certificateAuthorities = [{ certChain: { certificates: authorities.map(({ raw }) => ({ rawBytes: raw })) } }];
  const tlogs = logs.map((key) => {
    const rawBytes = key.export({ type: 'spki', format: 'der' });
    // a log is known by the digest of its key
    const logId = { keyId: createHash('sha256').update(rawBytes).digest() };
    return { baseUrl: '', publicKey: { rawBytes }, logId };
  });
  // The library reads no more of a root than this.
  const root = { certificateAuthorities, tlogs, timestampAuthorities: [], ctlogs: [] } as unknown as TrustedRoot;
  return toTrustMaterial(root, () => ({ publicKey: findKey(), validFor: () => true }));
}

/** Those that one of the authorities has issued for issuing. */
const issued = (some: readonly X509Certificate[], authorities: readonly X509Certificate[]): X509Certificate[] =>
  some.filter((one) => one.ca && authorities.some((by) => one.checkIssued(by) && one.verify(by.publicKey)));

const pems = (text: string): X509Certificate[] => certificates(text, invalid);
const rawBytes = (raw: Buffer): { rawBytes: string } => ({ rawBytes: raw.toString('base64') });
