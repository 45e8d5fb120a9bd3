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

/** Operating systems and architectures that Go knows: one of them may stand alone for a platform. */
const SYSTEMS = new Set(
  'aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9 solaris windows zos'.split(
    ' ',
  ),
);
const ARCHITECTURES = new Set(
  '386 amd64 amd64p32 arm arm64 arm64be armbe loong64 mips mips64 mips64le mips64p32 mips64p32le mipsle ppc ppc64 ppc64le riscv riscv64 s390 s390x sparc sparc64 wasm'.split(
    ' ',
  ),
);

/** `linux/arm64/v8`, one of its parts alone, or the JSON of a platform; undefined for ''. `host` fills in what is left out. */
export function parsePlatform(text: string, host: Platform): Platform | undefined {
  if (text === '') return undefined;
  if (text.startsWith('{')) return ofParts(fromJson(text), text);
  const parts = text.toLowerCase().split('/');
  if (parts.length > 1 || !COMPONENT.test(text)) return ofParts(parts, text);
  const [name = ''] = parts;
  const os = systemOf(name);
  if (SYSTEMS.has(os)) return { ...host, os };
  const alone = architectureOf(name);
  if (!ARCHITECTURES.has(alone.architecture)) throw invalid(text, 'unknown operating system or architecture');
  return { os: host.os, ...alone };
}

const COMPONENT = /^[A-Za-z0-9_.-]+$/;

function ofParts(parts: readonly string[], text: string): Platform {
  if (parts.length > 3) throw invalid(text, 'cannot parse platform specifier');
  for (const [i, part] of parts.entries())
    if (!COMPONENT.test(part)) {
      const what = `${JSON.stringify(part)} is an invalid ${i === 0 ? 'OS ' : ''}component of ${JSON.stringify(text)}`;
      throw refused(`${what}: platform specifier component must match ${JSON.stringify(COMPONENT.source)}`);
    }
  const [os = '', architecture = '', variant] = parts;
  return { os: systemOf(os), ...architectureOf(architecture, variant) };
}

const refused = (reason: string): CaissonError =>
  new CaissonError('InvalidParameter', `${reason}: invalid argument`, { code: 'INVALID_PLATFORM' });

const invalid = (text: string, reason: string): CaissonError => refused(`${JSON.stringify(text)}: ${reason}`);

const systemOf = (name: string): string => (name === 'macos' ? 'darwin' : name);

function architectureOf(name: string, variant?: string): Pick<Platform, 'architecture' | 'variant'> {
  const [architecture, implied] = ALIASES[name] ?? [name];
  const found = variant ?? implied;
  return { architecture, ...(found === undefined ? {} : { variant: found }) };
}

export const formatPlatform = ({ os, architecture, variant }: Platform): string =>
  [os, architecture, ...(variant ? [variant] : [])].join('/');

/** Of requests that name an image's platform: JSON, as clients write it. */
export function parsePlatformJson(text: string): Platform | undefined {
  if (text === '') return undefined;
  if (!text.startsWith('{')) throw notParsed(`${JSON.stringify(text)} is no JSON object`);
  return ofParts(fromJson(text), text);
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

const notParsed = (reason: string): CaissonError =>
  new CaissonError('InvalidParameter', `failed to parse platform: ${reason}`);

function fromJson(text: string): string[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw notParsed(`${JSON.stringify(text)} is no JSON`);
  }
  const { os, architecture, variant } = parsed as Record<string, unknown>;
  if (typeof os !== 'string' || typeof architecture !== 'string')
    throw new CaissonError('InvalidParameter', 'both OS and Architecture must be provided');
  return [os, architecture, ...(typeof variant === 'string' && variant !== '' ? [variant] : [])];
}
