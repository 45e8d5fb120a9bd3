import { describe, expect, it } from 'vitest';
import { DEFAULT_CAPABILITIES } from '../../ts/engine/runtime/capabilities.ts';
import {
  customSection,
  defaultSection,
  type SeccompHost,
  type SeccompSection,
} from '../../ts/engine/runtime/seccomp.ts';

const host: SeccompHost = { architecture: 'x86_64', kernelVersion: '6.18.44-x' };
const rulesFor = (section: SeccompSection, name: string) =>
  section.syscalls.filter(({ names }) => names.includes(name));
const allowed = (section: SeccompSection, name: string): boolean =>
  rulesFor(section, name).some(({ action, args }) => action === 'SCMP_ACT_ALLOW' && !args);

describe('the default profile', () => {
  const section = defaultSection(host, DEFAULT_CAPABILITIES);

  it('denies with EPERM what it does not name', () => {
    expect(section.defaultAction).toBe('SCMP_ACT_ERRNO');
    expect(section.defaultErrnoRet).toBe(1);
    for (const name of ['io_uring_setup', 'unshare', 'keyctl', 'bpf', 'userfaultfd', 'mount', 'setns', 'kexec_load']) {
      expect(rulesFor(section, name), name).toEqual([]);
    }
  });

  it('denies AF_ALG and AF_VSOCK sockets by leaving a gap at each', () => {
    const args = rulesFor(section, 'socket').flatMap((rule) => rule.args ?? []);
    expect(args).toEqual([
      { index: 0, value: 38, op: 'SCMP_CMP_LT' },
      { index: 0, value: 39, op: 'SCMP_CMP_EQ' },
      { index: 0, value: 40, op: 'SCMP_CMP_GT' },
    ]);
    expect(allowed(section, 'socket')).toBe(false);
  });

  it('says ENOSYS to clone3, so that libc falls back to clone, and lets clone make no namespace', () => {
    expect(rulesFor(section, 'clone3')).toEqual([{ names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: 38 }]);
    expect(rulesFor(section, 'clone')[0]?.args).toEqual([
      { index: 0, value: 0x7e020000, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' },
    ]);
  });

  it.each([
    ['SYS_ADMIN', ['mount', 'unshare', 'setns', 'clone3', 'bpf']],
    ['SYS_PTRACE', ['pidfd_getfd', 'kcmp']],
    ['SYS_TIME', ['settimeofday']],
    ['SYS_MODULE', ['init_module']],
    ['SYS_BOOT', ['reboot']],
    ['BPF', ['bpf']],
  ])('CAP_%s opens %j', (capability, names) => {
    const more = defaultSection(host, [...DEFAULT_CAPABILITIES, `CAP_${capability}`]);
    for (const name of names) {
      expect(allowed(section, name), name).toBe(false);
      expect(allowed(more, name), name).toBe(true);
    }
  });

  it('needs the capability for chroot', () => {
    expect(allowed(section, 'chroot')).toBe(true);
    expect(allowed(defaultSection(host, []), 'chroot')).toBe(false);
  });

  it('allows ptrace since kernel 4.8, where seccomp runs after it', () => {
    expect(allowed(section, 'ptrace')).toBe(true);
    expect(allowed(defaultSection({ ...host, kernelVersion: '4.4.0' }, []), 'ptrace')).toBe(false);
  });

  it('is for the own architecture and its older siblings', () => {
    expect(section.architectures).toEqual(['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32']);
    const arm = defaultSection({ ...host, architecture: 'aarch64' }, []);
    expect(arm.architectures).toEqual(['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM']);
    expect(allowed(section, 'arch_prctl')).toBe(true);
    expect(allowed(arm, 'arch_prctl')).toBe(false);
  });
});

describe('a profile of the user', () => {
  it('may carry the conditions of Docker', () => {
    const profile = {
      defaultAction: 'SCMP_ACT_ALLOW',
      archMap: [{ architecture: 'SCMP_ARCH_X86_64', subArchitectures: ['SCMP_ARCH_X86'] }],
      syscalls: [
        { names: ['mkdir'], action: 'SCMP_ACT_ERRNO', excludes: { caps: ['CAP_SYS_ADMIN'] } },
        { name: 'rmdir', action: 'SCMP_ACT_ERRNO', includes: { arches: ['arm64'] } },
      ],
    };
    const section = customSection(JSON.stringify(profile), host, []);
    expect(section?.architectures).toEqual(['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86']);
    expect(section?.syscalls).toEqual([{ names: ['mkdir'], action: 'SCMP_ACT_ERRNO' }]);
    expect(customSection(JSON.stringify(profile), host, ['CAP_SYS_ADMIN'])?.syscalls).toEqual([]);
  });

  it('is refused when it is not JSON, and filters nothing when it is empty', () => {
    expect(() => customSection('{', host, [])).toThrow('Decoding seccomp profile failed');
    expect(() => customSection('[]', host, [])).toThrow('it is not a JSON object');
    expect(customSection('{}', host, [])).toBeUndefined();
  });
});
