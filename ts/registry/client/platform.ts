/** Which image of an index runs on a platform. */
import type { Descriptor, Platform } from '../../oci.ts';

export const platformString = ({ os, architecture, variant }: Platform): string =>
  [os, architecture, ...(variant ? [variant] : [])].join('/');

/** Names that mean the same get one form. */
export function normalisePlatform(platform: Platform): Platform {
  const os = platform.os.toLowerCase();
  let architecture = platform.architecture.toLowerCase();
  let variant = (platform.variant ?? '').toLowerCase();
  if (architecture === 'x86_64' || architecture === 'x86-64') architecture = 'amd64';
  if (architecture === 'aarch64') architecture = 'arm64';
  if (architecture === 'i386') architecture = '386';
  if (/^\d+$/.test(variant)) variant = `v${variant}`;
  if (architecture === 'arm64' && variant === 'v8') variant = '';
  if (architecture === 'amd64' && variant === 'v1') variant = '';
  if (architecture === 'arm' && variant === '') variant = 'v7';
  return { os, architecture, ...(variant === '' ? {} : { variant }) };
}

/** What runs on it, the best first: newer processors run what older ones do, 64-bit ones mostly 32-bit programs. */
export function acceptable(wanted: Platform): Platform[] {
  const { os, architecture, variant } = normalisePlatform(wanted);
  const levels = (arch: string, from: number, to: number): Platform[] => {
    const list: Platform[] = [];
    for (let level = from; level >= to; level--)
      list.push(normalisePlatform({ os, architecture: arch, variant: `v${level}` }));
    return list;
  };
  const level = Number(/^v(\d{1,2})$/.exec(variant ?? '')?.[1] ?? Number.NaN);
  if (architecture === 'arm')
    return Number.isNaN(level) ? [{ os, architecture, ...(variant && { variant }) }] : levels('arm', level, 5);
  if (architecture === 'arm64') return [...levels('arm64', Number.isNaN(level) ? 8 : level, 8), ...levels('arm', 8, 5)];
  if (architecture === 'amd64')
    return [...levels('amd64', Number.isNaN(level) ? 1 : level, 1), { os, architecture: '386' }];
  return [normalisePlatform(wanted)];
}

/**
 * The manifest for the platform; attestations and such (`unknown/unknown`) are never one. Where none is for it, the first
 * that says no platform is taken, as by dockerd: indexes of one image often leave it out.
 */
export function choosePlatform(manifests: readonly Descriptor[], wanted: Platform): Descriptor | undefined {
  for (const candidate of acceptable(wanted)) {
    const name = platformString(candidate);
    const found = manifests.find(
      ({ platform }) =>
        platform !== undefined && platform.os !== 'unknown' && platformString(normalisePlatform(platform)) === name,
    );
    if (found !== undefined) return found;
  }
  return manifests.find(({ platform }) => platform === undefined);
}
