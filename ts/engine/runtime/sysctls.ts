/** `--sysctl`: only what the container's own namespaces hold; anything else would change the host (CVE-2022-0811). */
import { CaissonError } from '../../errdefs.ts';

const IPC = new Set([
  'kernel.msgmax',
  'kernel.msgmnb',
  'kernel.msgmni',
  'kernel.sem',
  'kernel.shmall',
  'kernel.shmmax',
  'kernel.shmmni',
  'kernel.shm_rmid_forced',
]);

const refuse = (message: string): CaissonError => new CaissonError('InvalidParameter', message);

export function checkSysctls(
  sysctls: Record<string, string>,
  namespaces: { hostNetwork: boolean; hostIpc: boolean; hostUts: boolean },
): void {
  for (const [name, value] of Object.entries(sysctls)) {
    // a name is dot-separated words: no slash or `..` may turn it into another file below /proc/sys
    if (!/^[a-z0-9_]+(\.[A-Za-z0-9_-]+)+$/.test(name)) throw refuse(`sysctl '${name}' is not a valid name`);
    if (/[\0\n]/.test(value)) throw refuse(`sysctl '${name}': the value must be a single line`);
    if (IPC.has(name) || name.startsWith('fs.mqueue.')) {
      if (namespaces.hostIpc) throw refuse(`sysctl '${name}' is not allowed with host ipc namespace`);
    } else if (name.startsWith('net.')) {
      if (namespaces.hostNetwork) throw refuse(`sysctl '${name}' is not allowed with host net namespace`);
    } else if (name === 'kernel.domainname' || name === 'kernel.hostname') {
      if (namespaces.hostUts) throw refuse(`sysctl '${name}' is not allowed with host uts namespace`);
    } else {
      throw refuse(`sysctl '${name}' is not allowed`);
    }
  }
}
