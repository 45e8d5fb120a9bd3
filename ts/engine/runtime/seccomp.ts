/**
 * Seccomp profiles: Docker's default as a table of facts (seccomp-default.json), or one the user gave as JSON, evaluated
 * for this host's architecture and kernel and the container's capabilities into an OCI section, then compiled once per
 * result into a file of BPF that every container with the same result shares.
 *
 *   <exec-root>/seccomp/<sha256 of the section>.bpf
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { CaissonError } from '../../errdefs.ts';
import type { HostInfo, Native } from '../native/index.ts';
import table from './seccomp-default.json' with { type: 'json' };

interface SyscallArgument {
  index: number;
  value: number;
  valueTwo?: number;
  op: string;
}

/** An entry of `linux.seccomp.syscalls`. */
interface SyscallRule {
  names: string[];
  action: string;
  errnoRet?: number;
  args?: SyscallArgument[];
}

interface Condition {
  arches?: string[];
  caps?: string[];
  minKernel?: string;
}

/** A rule of a profile file: Docker's format extends OCI's by conditions. */
interface ProfileRule extends Omit<SyscallRule, 'names'> {
  names?: string[];
  name?: string;
  includes?: Condition;
  excludes?: Condition;
}

interface Profile {
  defaultAction: string;
  defaultErrnoRet?: number;
  architectures?: string[];
  archMap?: { architecture: string; subArchitectures?: string[] | null }[];
  flags?: string[];
  syscalls?: ProfileRule[];
}

export interface SeccompSection {
  defaultAction: string;
  defaultErrnoRet?: number;
  architectures: string[];
  flags?: string[];
  syscalls: SyscallRule[];
}

export interface SeccompHost {
  architecture: HostInfo['architecture'];
  kernelVersion: string;
}

/** Go's names of the architectures, which Docker's profiles use in their conditions. */
const GO_ARCH = { x86_64: 'amd64', aarch64: 'arm64' } as const;

const newerOrEqual = (kernel: string, wanted: string): boolean => {
  const [major = 0, minor = 0] = kernel.split('.').map((part) => Number.parseInt(part, 10));
  const [wantedMajor = 0, wantedMinor = 0] = wanted.split('.').map(Number);
  return major > wantedMajor || (major === wantedMajor && minor >= wantedMinor);
};

type Conditional = (typeof table.conditional)[number];

function conditionalToRule(entry: Conditional): ProfileRule {
  const rule: ProfileRule = { names: entry.names, action: 'SCMP_ACT_ALLOW' };
  if ('errno' in entry && entry.errno !== undefined)
    Object.assign(rule, { action: 'SCMP_ACT_ERRNO', errnoRet: entry.errno });
  if ('arg' in entry && entry.arg !== undefined) rule.args = [toArgument(entry.arg as ArgumentFact)];
  const includes: Condition = {};
  if ('withCap' in entry && entry.withCap !== undefined) includes.caps = [`CAP_${entry.withCap}`];
  if ('on' in entry && entry.on !== undefined) includes.arches = [GO_ARCH[entry.on as keyof typeof GO_ARCH]];
  if ('sinceKernel' in entry && entry.sinceKernel !== undefined) includes.minKernel = entry.sinceKernel;
  rule.includes = includes;
  if ('withoutCap' in entry && entry.withoutCap !== undefined) rule.excludes = { caps: [`CAP_${entry.withoutCap}`] };
  return rule;
}

interface ArgumentFact {
  index: number;
  below?: number;
  above?: number;
  equals?: number;
  mask?: number;
}

function toArgument(fact: ArgumentFact): SyscallArgument {
  const { index } = fact;
  if (fact.mask !== undefined) return { index, value: fact.mask, valueTwo: fact.equals ?? 0, op: 'SCMP_CMP_MASKED_EQ' };
  if (fact.below !== undefined) return { index, value: fact.below, op: 'SCMP_CMP_LT' };
  if (fact.above !== undefined) return { index, value: fact.above, op: 'SCMP_CMP_GT' };
  return { index, value: fact.equals ?? 0, op: 'SCMP_CMP_EQ' };
}

const defaultProfile = (host: SeccompHost): Profile => ({
  defaultAction: 'SCMP_ACT_ERRNO',
  defaultErrnoRet: table.deniedWith,
  architectures: table.architectures[host.architecture].map((name) => `SCMP_ARCH_${name}`),
  syscalls: [{ names: table.allowed, action: 'SCMP_ACT_ALLOW' }, ...table.conditional.map(conditionalToRule)],
});

function applies(rule: ProfileRule, host: SeccompHost, capabilities: string[]): boolean {
  const arch = GO_ARCH[host.architecture];
  const { includes, excludes } = rule;
  if (excludes?.arches?.includes(arch)) return false;
  if (excludes?.caps?.some((capability) => capabilities.includes(capability))) return false;
  if (excludes?.minKernel !== undefined && newerOrEqual(host.kernelVersion, excludes.minKernel)) return false;
  if (includes?.arches?.length && !includes.arches.includes(arch)) return false;
  if (includes?.caps?.some((capability) => !capabilities.includes(capability))) return false;
  return includes?.minKernel === undefined || newerOrEqual(host.kernelVersion, includes.minKernel);
}

function evaluate(profile: Profile, host: SeccompHost, capabilities: string[]): SeccompSection {
  const native = host.architecture === 'x86_64' ? 'SCMP_ARCH_X86_64' : 'SCMP_ARCH_AARCH64';
  const mapped = profile.archMap?.find((entry) => entry.architecture === native);
  const syscalls: SyscallRule[] = [];
  for (const rule of profile.syscalls ?? []) {
    if (!applies(rule, host, capabilities)) continue;
    const { name, names, includes: _includes, excludes: _excludes, ...rest } = rule;
    syscalls.push({ ...rest, names: names?.length ? names : name ? [name] : [] });
  }
  return {
    defaultAction: profile.defaultAction,
    ...(profile.defaultErrnoRet === undefined ? {} : { defaultErrnoRet: profile.defaultErrnoRet }),
    architectures: mapped ? [mapped.architecture, ...(mapped.subArchitectures ?? [])] : (profile.architectures ?? []),
    ...(profile.flags === undefined ? {} : { flags: profile.flags }),
    syscalls,
  };
}

export const defaultSection = (host: SeccompHost, capabilities: string[]): SeccompSection =>
  evaluate(defaultProfile(host), host, capabilities);

/** A profile from `--security-opt seccomp=FILE`; the CLI sends the file's content. */
export function customSection(json: string, host: SeccompHost, capabilities: string[]): SeccompSection | undefined {
  let profile: Profile;
  try {
    profile = JSON.parse(json) as Profile;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new CaissonError('InvalidParameter', `Decoding seccomp profile failed: ${why}`);
  }
  if (typeof profile !== 'object' || profile === null || Array.isArray(profile)) {
    throw new CaissonError('InvalidParameter', 'Decoding seccomp profile failed: it is not a JSON object');
  }
  if (!profile.defaultAction && !profile.syscalls?.length) return undefined;
  if (profile.architectures?.length && profile.archMap?.length) {
    throw new CaissonError(
      'InvalidParameter',
      "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'",
    );
  }
  return evaluate(profile, host, capabilities);
}

/** Compiled profiles of this exec root. */
export class SeccompCache {
  readonly #native: Pick<Native, 'compileSeccomp'>;
  readonly #dir: string;
  readonly #host: SeccompHost;
  readonly #files = new Map<string, Promise<string>>();

  constructor(native: Pick<Native, 'compileSeccomp'>, execRoot: string, host: SeccompHost) {
    this.#native = native;
    this.#dir = join(execRoot, 'seccomp');
    this.#host = host;
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 });
  }

  /** The file for this profile (absent: the default) and these capabilities; undefined when it filters nothing. */
  async file(capabilities: string[], json?: string): Promise<string | undefined> {
    const key = `${[...capabilities].sort().join()}\n${json ?? ''}`;
    const known = this.#files.get(key);
    if (known) return known;
    const section = this.section(capabilities, json);
    if (!section) return undefined;
    const path = join(this.#dir, `${createHash('sha256').update(JSON.stringify(section)).digest('hex')}.bpf`);
    const made = this.#compile(section, path);
    this.#files.set(key, made);
    made.catch(() => this.#files.delete(key));
    return made;
  }

  /** The same as the specification has it. */
  section(capabilities: string[], json?: string): SeccompSection | undefined {
    return json === undefined
      ? defaultSection(this.#host, capabilities)
      : customSection(json, this.#host, capabilities);
  }

  async #compile(section: SeccompSection, path: string): Promise<string> {
    if (!existsSync(path)) await this.#native.compileSeccomp({ seccomp: section, path });
    return path;
  }
}
