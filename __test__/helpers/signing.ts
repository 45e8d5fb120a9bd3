/** Signatures of images as cosign makes them, and their way into a registry. */
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type Descriptor, MEDIA_TYPES } from '../../ts/oci.ts';
import type { Issued } from './certificates.ts';
import { digestOf, pushBlob, putManifest } from './servedRegistry.ts';

export interface Signer {
  privateKey: KeyObject;
  /** PEM. */
  publicKey: string;
  /** PEM, of one whose key Fulcio vouches for. */
  certificate?: string;
}

export function newSigner(): Signer {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { privateKey, publicKey: publicKey.export({ type: 'spki', format: 'pem' }).toString() };
}

export function certifiedSigner({ certificate, key }: Issued): Signer {
  const privateKey = createPrivateKey(readFileSync(key));
  const publicKey = createPublicKey(privateKey).export({ type: 'spki', format: 'pem' }).toString();
  return { privateKey, publicKey, certificate: readFileSync(certificate, 'utf8') };
}

export interface Layer {
  mediaType: string;
  data: Buffer;
  annotations?: Record<string, string>;
}

const base64 = (data: string | Buffer): string => Buffer.from(data).toString('base64');

/** `log`: whose key records it. */
export function cosignLayer(by: Signer, digest: string, name: string, log?: Signer): Layer {
  const critical = {
    identity: { 'docker-reference': name },
    image: { 'docker-manifest-digest': digest },
    type: 'cosign container image signature',
  };
  const data = Buffer.from(JSON.stringify({ critical, optional: null }));
  const signature = base64(sign('sha256', data, by.privateKey));
  const annotations = {
    'dev.cosignproject.cosign/signature': signature,
    ...(by.certificate !== undefined && { 'dev.sigstore.cosign/certificate': by.certificate }),
    ...(log && { 'dev.sigstore.cosign/bundle': recorded(data, signature, by, log) }),
  };
  return { mediaType: 'application/vnd.dev.cosign.simplesigning.v1+json', data, annotations };
}

/** What Rekor answers, as of now. */
function recorded(data: Buffer, signature: string, { certificate, publicKey }: Signer, log: Signer): string {
  const hash = { algorithm: 'sha256', value: createHash('sha256').update(data).digest('hex') };
  const key = { content: base64(certificate ?? publicKey) };
  const spec = { data: { hash }, signature: { content: signature, publicKey: key } };
  const body = base64(JSON.stringify({ apiVersion: '0.0.1', kind: 'hashedrekord', spec }));
  const spki = createPublicKey(log.publicKey).export({ type: 'spki', format: 'der' });
  const logID = createHash('sha256').update(spki).digest('hex');
  // in the canonical order of its keys, which is what is signed
  const Payload = { body, integratedTime: Math.floor(Date.now() / 1000), logID, logIndex: 7 };
  const SignedEntryTimestamp = base64(sign('sha256', Buffer.from(JSON.stringify(Payload)), log.privateKey));
  return JSON.stringify({ SignedEntryTimestamp, Payload });
}

const BUNDLE_TYPE = 'application/vnd.dev.sigstore.bundle.v0.3+json';

export function bundleLayer(by: Signer, digest: string, predicateType = 'https://sigstore.dev/cosign/sign/v1'): Layer {
  const [algorithm = '', hex = ''] = digest.split(':');
  const subject = [{ digest: { [algorithm]: hex } }];
  const payloadType = 'application/vnd.in-toto+json';
  const payload = JSON.stringify({ _type: 'https://in-toto.io/Statement/v1', predicateType, subject, predicate: {} });
  const signed = `DSSEv1 ${payloadType.length} ${payloadType} ${payload.length} ${payload}`;
  const sig = base64(sign('sha256', Buffer.from(signed), by.privateKey));
  const bundle = {
    mediaType: BUNDLE_TYPE,
    verificationMaterial: { publicKey: { hint: 'any' }, tlogEntries: [] },
    dsseEnvelope: { payload: base64(payload), payloadType, signatures: [{ sig, keyid: '' }] },
  };
  return { mediaType: BUNDLE_TYPE, data: Buffer.from(JSON.stringify(bundle)) };
}

/** Under cosign's tag. */
export const tagSignatures = (url: string, name: string, digest: string, layers: Layer[]): Promise<void> =>
  attach(url, name, `${digest.replace(':', '-')}.sig`, layers, {});

/** As one that refers to the image. */
export function referSignature(url: string, name: string, subject: Descriptor, layer: Layer): Promise<void> {
  return attach(url, name, undefined, [layer], { artifactType: BUNDLE_TYPE, subject });
}

async function attach(
  url: string,
  name: string,
  tag: string | undefined,
  layers: Layer[],
  more: { artifactType?: string; subject?: Descriptor },
): Promise<void> {
  const descriptors: Descriptor[] = [];
  for (const { data, mediaType, annotations } of layers) {
    await pushBlob(url, name, data);
    descriptors.push({ mediaType, digest: digestOf(data), size: data.length, ...(annotations && { annotations }) });
  }
  await pushBlob(url, name, '{}');
  const config = { mediaType: 'application/vnd.oci.empty.v1+json', digest: digestOf('{}'), size: 2 };
  const manifest = { schemaVersion: 2, mediaType: MEDIA_TYPES.ociManifest, config, layers: descriptors, ...more };
  const body = JSON.stringify(manifest);
  const answer = await putManifest(url, name, tag ?? digestOf(body), body);
  if (answer.status !== 201) throw new Error(`push of a signature: ${answer.status} ${await answer.text()}`);
}
