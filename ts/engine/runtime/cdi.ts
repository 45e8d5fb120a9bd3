/**
 * Devices by the Container Device Interface: vendors describe them in files, users name them `vendor.com/class=name`.
 *
 *   <cdi-spec-dir>/*.json, *.yaml    a later directory goes over an earlier one
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { CaissonError } from '../../errdefs.ts';
import type { Hook, RuntimeSpec } from '../../oci.ts';
import { readDevice } from './devices.ts';

interface DeviceNode {
  path: string;
  hostPath?: string;
  fileMode?: number;
  permissions?: string;
  uid?: number;
  gid?: number;
}

/** What a device needs of a container. */
interface Edits {
  env?: string[];
  deviceNodes?: DeviceNode[];
  hooks?: { hookName: string; path: string; args?: string[]; env?: string[]; timeout?: number }[];
  mounts?: { hostPath: string; containerPath: string; options?: string[]; type?: string }[];
  additionalGids?: number[];
}

interface SpecFile {
  cdiVersion: string;
  kind: string;
  devices: { name: string; containerEdits: Edits }[];
  containerEdits?: Edits;
}

interface FoundDevice {
  /** Its edits go in once, however many of its devices are asked for. */
  spec: SpecFile;
  edits: Edits;
  directory: number;
}

export interface CdiDevices {
  /** By qualified name. */
  devices: ReadonlyMap<string, FoundDevice>;
  /** Files that cannot be read as a specification, and names that two files of one directory give. */
  warnings: string[];
}

/** Hooks that the shim runs. */
const HOOKS = new Set(['prestart', 'createRuntime', 'createContainer', 'startContainer']);
const EDITS = new Set(['env', 'deviceNodes', 'hooks', 'mounts', 'additionalGids']);

/** What the directories hold now: they may change at any time. */
export function readCdiDevices(directories: readonly string[]): CdiDevices {
  const devices = new Map<string, FoundDevice>();
  const ambiguous = new Set<string>();
  const warnings: string[] = [];
  for (const [directory, path] of directories.entries()) {
    for (const file of specFiles(path)) {
      let spec: SpecFile;
      try {
        spec = checkSpec(parse(readFileSync(file, 'utf8')));
      } catch (error) {
        warnings.push(`CDI: Error associated with spec file ${file}: ${(error as Error).message}`);
        continue;
      }
      for (const { name, containerEdits: edits } of spec.devices) {
        const qualified = `${spec.kind}=${name}`;
        if (devices.get(qualified)?.directory === directory) {
          ambiguous.add(qualified);
          warnings.push(
            `CDI: Error associated with spec file ${file}: conflicting device ${JSON.stringify(qualified)}`,
          );
        } else {
          ambiguous.delete(qualified);
          devices.set(qualified, { spec, edits, directory });
        }
      }
    }
  }
  for (const name of ambiguous) devices.delete(name);
  return { devices, warnings };
}

function specFiles(directory: string): string[] {
  let names: string[];
  try {
    names = readdirSync(directory);
  } catch {
    // most hosts have none
    return [];
  }
  return names
    .filter((name) => /\.(json|yaml)$/.test(name))
    .sort()
    .map((name) => join(directory, name));
}

function checkSpec(value: unknown): SpecFile {
  const spec = value as Partial<SpecFile> | null;
  if (typeof spec !== 'object' || spec === null) throw new Error('not an object');
  if (!/^(0\.[3-9]|1\.)/.test(spec.cdiVersion ?? ''))
    throw new Error(`invalid cdiVersion ${JSON.stringify(spec.cdiVersion)}`);
  if (!/^[a-zA-Z][\w.-]*\/[a-zA-Z][\w.-]*$/.test(spec.kind ?? ''))
    throw new Error(`invalid kind ${JSON.stringify(spec.kind)}`);
  if (!Array.isArray(spec.devices) || spec.devices.length === 0) throw new Error('no devices');
  for (const { name, containerEdits } of spec.devices) {
    if (!/^[a-zA-Z0-9][\w.:-]*$/.test(name)) throw new Error(`invalid device name ${JSON.stringify(name)}`);
    if (typeof containerEdits !== 'object' || containerEdits === null)
      throw new Error(`device ${name} has no containerEdits`);
  }
  return spec as SpecFile;
}

const failed = (why: string, kind: 'System' | 'NotImplemented' = 'System'): CaissonError =>
  new CaissonError(kind, `CDI device injection failed: ${why}`, { code: 'CDI_DEVICE_NOT_INJECTED' });

/** Changes the spec of a container that has asked for devices by name. */
export async function injectCdiDevices(
  spec: RuntimeSpec,
  names: readonly string[],
  directories: readonly string[],
): Promise<void> {
  if (directories.length === 0) throw failed('no CDI specification directories specified');
  const { devices } = readCdiDevices(directories);
  const missing = names.filter((name) => !devices.has(name));
  if (missing.length > 0) throw failed(`unresolvable CDI devices ${missing.join(', ')}`);
  const found = names.map((name) => devices.get(name) as FoundDevice);
  const common = [...new Set(found.map((device) => device.spec))].map((one) => one.containerEdits ?? {});
  for (const edits of [...common, ...found.map((device) => device.edits)]) await apply(spec, edits);
  // parents before children, as everywhere in the table
  spec.mounts.sort((a, b) => a.destination.split('/').length - b.destination.split('/').length);
}

async function apply(spec: RuntimeSpec, edits: Edits): Promise<void> {
  const unknown = Object.keys(edits).find((key) => !EDITS.has(key));
  if (unknown !== undefined) throw failed(`containerEdits.${unknown} is not supported by caisson`, 'NotImplemented');
  for (const entry of edits.env ?? []) setVariable(spec.process.env, entry);
  for (const node of edits.deviceNodes ?? []) await addNode(spec, node);
  for (const { hostPath, containerPath, options = ['rbind', 'rprivate'], type = 'bind' } of edits.mounts ?? []) {
    spec.mounts = spec.mounts.filter(({ destination }) => destination !== containerPath);
    spec.mounts.push({ destination: containerPath, type, source: hostPath, options });
  }
  for (const { hookName, path, args = [], env, timeout } of edits.hooks ?? []) {
    if (!HOOKS.has(hookName)) throw failed(`the hook ${hookName} is not supported by caisson`, 'NotImplemented');
    const hook: Hook = { path, args, ...(env && { env }), ...(timeout !== undefined && { timeout }) };
    const kind = hookName as keyof NonNullable<RuntimeSpec['hooks']>;
    spec.hooks = { ...spec.hooks, [kind]: [...(spec.hooks?.[kind] ?? []), hook] };
  }
  if (edits.additionalGids?.length) {
    const { user } = spec.process;
    user.additionalGids = [...(user.additionalGids ?? []), ...edits.additionalGids.filter((gid) => gid !== 0)];
  }
}

/** In place of one of the same name. */
function setVariable(env: string[], entry: string): void {
  const name = `${entry.split('=', 1)[0]}=`;
  const at = env.findIndex((one) => one.startsWith(name));
  if (at < 0) env.push(entry);
  else env[at] = entry;
}

async function addNode(spec: RuntimeSpec, node: DeviceNode): Promise<void> {
  const { path, hostPath = path, permissions = 'rwm', fileMode, uid, gid } = node;
  const read = await readDevice(hostPath, path).catch((error: NodeJS.ErrnoException) => {
    throw failed(`failed to stat CDI host device ${JSON.stringify(hostPath)}: ${error.code ?? error.message}`);
  });
  if (read === undefined) throw failed(`${JSON.stringify(hostPath)} is not a device node`);
  const given = Object.entries({ fileMode, uid, gid }).filter(([, value]) => value !== undefined);
  const device = { ...read, ...Object.fromEntries(given) };
  const { linux } = spec;
  linux.devices = [...(linux.devices ?? []).filter((one) => one.path !== path), device];
  const { type, major, minor } = read;
  linux.resources.devices = [
    ...(linux.resources.devices ?? []),
    { allow: true, type: type as 'c' | 'b', major, minor, access: permissions },
  ];
}
