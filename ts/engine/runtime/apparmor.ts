/** AppArmor: under which profile a container runs, and how Docker's default one gets into the kernel. */
import { readFileSync, writeFileSync } from 'node:fs';
import { CaissonError } from '../../errdefs.ts';
import { nativeFile } from '../../nativeFiles.ts';
import type { SecurityOptions } from './security.ts';

const DEFAULT_PROFILE = 'docker-default';
const KERNEL = '/sys/kernel/security/apparmor';

/** As `inspect` names it: `unconfined` for privileged containers whatever else they ask for, empty on hosts without AppArmor. */
export function apparmorProfile(
  { apparmor }: Pick<SecurityOptions, 'apparmor'>,
  { Privileged }: { Privileged: boolean },
  host: { apparmor: boolean },
): string {
  if (!host.apparmor) return '';
  return Privileged ? 'unconfined' : apparmor || DEFAULT_PROFILE;
}

/** For the specification of a process. Docker's default profile is loaded if it is not: tools may remove what they don't know. */
export function confinement(profile: string): { apparmorProfile?: string } {
  if (profile === '' || profile === 'unconfined') return {};
  if (profile === DEFAULT_PROFILE) loadDefault();
  return { apparmorProfile: profile };
}

function loadDefault(): void {
  try {
    const loaded = readFileSync(`${KERNEL}/profiles`, 'utf8');
    if (loaded.split('\n').some((line) => line.startsWith(`${DEFAULT_PROFILE} (`))) return;
    writeFileSync(`${KERNEL}/.load`, readFileSync(nativeFile('docker-default.bin')));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return; // another engine was faster
    throw new CaissonError(
      'System',
      `AppArmor enabled on system but the ${DEFAULT_PROFILE} profile could not be loaded: ${message}`,
      {
        cause: error,
        hint: `mount securityfs on /sys/kernel/security, or run with --security-opt apparmor=unconfined`,
      },
    );
  }
}
