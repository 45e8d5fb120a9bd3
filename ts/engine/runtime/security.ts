/** `--security-opt`: parsed, and refused when this host cannot keep the promise. */
import { CaissonError } from '../../errdefs.ts';

export interface SecurityOptions {
  noNewPrivileges: boolean;
  /** The container may make cgroups of its own below its own one. */
  writableCgroups: boolean;
  /** The content of a profile, `unconfined`, or undefined for the default. */
  seccomp?: string;
  apparmor?: string;
  /** `systempaths=unconfined` reaches us as empty MaskedPaths and ReadonlyPaths; the option itself changes nothing. */
}

const invalid = (message: string): CaissonError => new CaissonError('InvalidParameter', message);

/** A switch: on without a value. */
function isOn(value: string | undefined, option: string): boolean {
  if (value === undefined || ['true', '1', 't', 'T', 'TRUE', 'True'].includes(value)) return true;
  if (['false', '0', 'f', 'F', 'FALSE', 'False'].includes(value)) return false;
  throw invalid(`invalid --security-opt 2: ${JSON.stringify(option)}`);
}

export function parseSecurityOptions(
  options: string[] | null,
  host: { apparmor: boolean; seccomp: boolean; selinux: boolean },
  { noNewPrivileges } = { noNewPrivileges: false },
): SecurityOptions {
  const parsed: SecurityOptions = { noNewPrivileges, writableCgroups: false };
  for (const option of options ?? []) {
    // Docker's older form separates by a colon
    const match = /^([a-z-]+)(?:[=:]([\s\S]*))?$/.exec(option);
    const key = match?.[1];
    const value = match?.[2];
    if (key === 'no-new-privileges') {
      parsed.noNewPrivileges = isOn(value, option);
    } else if (key === 'writable-cgroups') {
      parsed.writableCgroups = isOn(value, option);
    } else if (value === undefined) {
      throw invalid(`invalid --security-opt 1: "${option}"`);
    } else if (key === 'seccomp') {
      if (!host.seccomp && value !== 'unconfined') {
        throw new CaissonError(
          'NotImplemented',
          'seccomp is not enabled in your kernel, cannot run a custom seccomp profile',
        );
      }
      parsed.seccomp = value;
    } else if (key === 'apparmor') {
      parsed.apparmor = value;
    } else if (key === 'label') {
      if (value !== 'disable') {
        throw new CaissonError('NotImplemented', `--security-opt ${option}: SELinux labels are not supported`);
      }
    } else if (key === 'systempaths') {
      if (value !== 'unconfined') throw invalid(`invalid --security-opt 2: "${option}"`);
    } else {
      throw invalid(`invalid --security-opt 2: "${option}"`);
    }
  }
  checkAppArmor(parsed, host);
  return parsed;
}

function checkAppArmor(parsed: SecurityOptions, host: { apparmor: boolean }): void {
  if (parsed.apparmor === undefined || parsed.apparmor === 'unconfined') return;
  if (!host.apparmor) {
    throw new CaissonError(
      'NotImplemented',
      `--security-opt apparmor=${parsed.apparmor}: AppArmor is not enabled on this host, so the profile cannot be applied`,
    );
  }
}
