/** Platforms of images: `os/architecture[/variant]`. */
import { CaissonError } from '../../errdefs.ts';
import type { Platform } from '../../oci.ts';
import { choosePlatform } from '../../registry/client/platform.ts';
import type { HostInfo } from '../native/index.ts';

const GO = { x86_64: 'amd64', aarch64: 'arm64' } as const;

export const hostPlatform = ({ architecture }: Pick<HostInfo, 'architecture'>): Platform => ({
  os: 'linux',
  architecture: GO[architecture],
  ...(architecture === 'aarch64' ? { variant: 'v8' } : {}),
});

const ALIASES: Record<string, [string, string?]> = {
  x86_64: ['amd64'],
  'x86-64': ['amd64'],
  aarch64: ['arm64'],
  armhf: ['arm', 'v7'],
  armel: ['arm', 'v6'],
};

/** `linux/arm64/v8`, or the JSON of a platform; undefined for ''. */
export function parsePlatform(text: string): Platform | undefined {
  if (text === '') return undefined;
  const invalid = (): CaissonError =>
    new CaissonError('InvalidParameter', `invalid platform ${JSON.stringify(text)}: not os/architecture[/variant]`);
  const parts = text.startsWith('{') ? fromJson(text, invalid) : text.toLowerCase().split('/');
  if (parts.length > 3 || !parts.every((part) => /^[a-z0-9_.-]+$/.test(part))) throw invalid();
  const [os = '', given = '', variant] = parts.length === 1 ? ['linux', parts[0]] : parts;
  const [architecture, implied] = ALIASES[given] ?? [given];
  const found = variant ?? implied;
  return { os, architecture, ...(found === undefined ? {} : { variant: found }) };
}

export const formatPlatform = ({ os, architecture, variant }: Platform): string =>
  [os, architecture, ...(variant ? [variant] : [])].join('/');

/** Of requests that name an image's platform: JSON, as clients write it. */
export function parsePlatformJson(text: string): Platform | undefined {
  if (text !== '' && !text.startsWith('{'))
    throw new CaissonError('InvalidParameter', `failed to parse platform: ${JSON.stringify(text)} is no JSON object`);
  return parsePlatform(text);
}

/** Whether what an image is made for runs on the platform: what a pull for it would have chosen. */
export function runsOn({ os, architecture, variant }: Platform, wanted: Platform): boolean {
  const platform = { os, architecture, ...(variant ? { variant } : {}) };
  return choosePlatform([{ mediaType: '', digest: '', size: 0, platform }], wanted) !== undefined;
}

/** Kind NotFound, with Docker's text, unless the image runs on the platform. */
export function requirePlatform(name: string, image: Platform, wanted: Platform): void {
  if (runsOn(image, wanted)) return;
  throw new CaissonError(
    'NotFound',
    `image with reference ${name} was found but its platform (${formatPlatform(image)}) does not match the specified platform (${formatPlatform(wanted)})`,
    { code: 'PLATFORM_NOT_FOUND' },
  );
}

function fromJson(text: string, invalid: () => CaissonError): string[] {
  try {
    const { os, architecture, variant } = JSON.parse(text) as Record<string, unknown>;
    if (typeof os !== 'string' || typeof architecture !== 'string') throw invalid();
    return [os, architecture, ...(typeof variant === 'string' && variant !== '' ? [variant] : [])];
  } catch {
    throw invalid();
  }
}
