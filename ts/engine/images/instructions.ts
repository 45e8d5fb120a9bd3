/** Dockerfile instructions that change an image's config: of a build, and of `--change` of import and commit. */
import { posix } from 'node:path';
import { CaissonError } from '../../errdefs.ts';
import type { ImageRunConfig } from '../../oci.ts';
import { parseHealthcheck } from './healthcheckInstruction.ts';
import { type Lookup, lookupIn, resolve, words } from './variables.ts';

const invalid = (line: string, reason: string): CaissonError =>
  new CaissonError('InvalidParameter', `invalid change ${JSON.stringify(line)}: ${reason}`);

export function applyChanges(config: ImageRunConfig, lines: readonly string[]): ImageRunConfig {
  const changed = lines.filter((line) => line.trim() !== '').reduce(applyChange, config);
  const sets = (name: string): boolean => lines.some((line) => line.trim().toUpperCase().startsWith(`${name} `));
  // A new entrypoint takes no arguments that were meant for another program.
  return sets('ENTRYPOINT') && !sets('CMD') && changed.Cmd != null ? { ...changed, Cmd: null } : changed;
}

function applyChange(config: ImageRunConfig, line: string): ImageRunConfig {
  const [, name = '', given = ''] = /^\s*([A-Za-z]+)\s+([\s\S]*)$/.exec(line) ?? [];
  const text = given.trim();
  if (text === '') throw invalid(line, 'it needs an instruction and a value');
  // what this very instruction sets is seen by the next one only
  const lookup = lookupIn(config.Env ?? []);
  const changed = applyInstruction(config, { name: name.toUpperCase(), text }, lookup, (reason) =>
    invalid(line, reason),
  );
  if (changed === undefined) throw invalid(line, `${name || line} is not an instruction that can be used here`);
  return changed;
}

/** Undefined for one that changes no config. `fail` makes the error of a reason. */
export function applyInstruction(
  config: ImageRunConfig,
  { name, text }: { name: string; text: string },
  lookup: Lookup,
  fail: (reason: string) => Error,
): ImageRunConfig | undefined {
  switch (name) {
    case 'CMD':
      return { ...config, Cmd: command(config, text) };
    case 'ENTRYPOINT':
      return { ...config, Entrypoint: command(config, text) };
    case 'ENV':
      return { ...config, Env: mergeEnv(config.Env ?? [], pairs(text, lookup, fail)) };
    case 'LABEL':
      return { ...config, Labels: { ...config.Labels, ...Object.fromEntries(pairs(text, lookup, fail)) } };
    case 'EXPOSE':
      return {
        ...config,
        ExposedPorts: { ...config.ExposedPorts, ...ports(resolve(text, lookup).trim().split(/\s+/), fail) },
      };
    case 'VOLUME':
      return { ...config, Volumes: { ...config.Volumes, ...emptyObjects(volumes(text, lookup, fail)) } };
    case 'USER':
      return { ...config, User: resolve(text, lookup) };
    case 'WORKDIR':
      return { ...config, WorkingDir: posix.resolve('/', config.WorkingDir || '', resolve(text, lookup)) };
    case 'STOPSIGNAL':
      return { ...config, StopSignal: resolve(text, lookup) };
    case 'HEALTHCHECK':
      return { ...config, Healthcheck: parseHealthcheck(text, jsonList, fail) };
    case 'ONBUILD':
      return { ...config, OnBuild: [...(config.OnBuild ?? []), text] };
    default:
      return undefined;
  }
}

/** `own` over `base`, as Docker's commit merges: what is set replaces, lists of names add up. */
export function mergeRunConfig(own: ImageRunConfig, base: ImageRunConfig): ImageRunConfig {
  const union = <T>(key: 'ExposedPorts' | 'Volumes' | 'Labels'): Record<string, T> | undefined => {
    const merged = { ...base[key], ...own[key] } as Record<string, T>;
    return Object.keys(merged).length > 0 ? merged : undefined;
  };
  const ownEnv = (own.Env ?? []).map((entry): [string, string] => {
    const at = entry.indexOf('=');
    return at < 0 ? [entry, ''] : [entry.slice(0, at), entry.slice(at + 1)];
  });
  const isSet = ([, value]: [string, unknown]): boolean => value != null && value !== '';
  const merged: ImageRunConfig = {
    ...Object.fromEntries(Object.entries(base).filter(isSet)),
    ...Object.fromEntries(Object.entries(own).filter(isSet)),
    ...(own.Entrypoint != null && own.Cmd == null && { Cmd: null }),
    Env: mergeEnv(base.Env ?? [], ownEnv),
  };
  for (const key of ['ExposedPorts', 'Volumes', 'Labels'] as const) {
    const value = union(key);
    if (value === undefined) delete merged[key];
    else Object.assign(merged, { [key]: value });
  }
  return merged;
}

/** A list as it is, anything else for the shell. */
export const command = ({ Shell }: ImageRunConfig, text: string): string[] =>
  jsonList(text) ?? [...shellOf(Shell), text];

export const shellOf = (shell: readonly string[] | null | undefined): readonly string[] =>
  shell != null && shell.length > 0 ? shell : ['/bin/sh', '-c'];

/** Undefined for what is no JSON list of strings. */
export function jsonList(text: string): string[] | undefined {
  if (!text.startsWith('[')) return undefined;
  try {
    const list: unknown = JSON.parse(text);
    return Array.isArray(list) && list.every((item) => typeof item === 'string') ? list : undefined;
  } catch {
    return undefined;
  }
}

/** `a=b c="d e"`, or the old `a rest of the line`. */
export function pairs(text: string, lookup: Lookup, fail: (reason: string) => Error): [string, string][] {
  const list = words(text, lookup);
  const [first = ''] = list;
  if (!first.includes('=')) {
    const value = text.slice(text.search(/\s|$/)).trim();
    if (value === '') throw fail(`${first} has no value`);
    return [[first, resolve(value, lookup)]];
  }
  return list.map((word) => {
    const at = word.indexOf('=');
    if (at < 1) throw fail(`${word} is not of the form key=value`);
    return [word.slice(0, at), word.slice(at + 1)];
  });
}

export function mergeEnv(env: readonly string[], added: [string, string][]): string[] {
  const all = new Map(env.map((entry) => [entry.split('=')[0] ?? '', entry]));
  for (const [key, value] of added) all.set(key, `${key}=${value}`);
  return [...all.values()];
}

function volumes(text: string, lookup: Lookup, fail: (reason: string) => Error): string[] {
  const paths = jsonList(text)?.map((path) => resolve(path, lookup)) ?? words(text, lookup);
  if (paths.some((path) => path.trim() === '')) throw fail('VOLUME specified can not be an empty string');
  return paths;
}

/** Each port of `8000-8002/tcp`; an address and a port of the host in front of it (`127.0.0.1:80:80`) say nothing here. */
function ports(list: string[], fail: (reason: string) => Error): Record<string, object> {
  const portsOf = (given: string): string[] => {
    const [, from = '', to = from, protocol = 'tcp'] =
      /^(?:(?:(?:\[[0-9a-f:.]+\]|[\d.]*):)?[\d-]*:)?(\d{1,5})(?:-(\d{1,5}))?(?:\/(tcp|udp|sctp))?$/i.exec(given) ?? [];
    const [first, last] = [Number(from), Number(to)];
    if (from === '' || last < first || last > 65_535) throw fail(`${given} is not a port`);
    return Array.from({ length: last - first + 1 }, (_, at) => `${first + at}/${protocol.toLowerCase()}`);
  };
  return emptyObjects(list.flatMap(portsOf));
}

const emptyObjects = (keys: readonly string[]): Record<string, object> =>
  Object.fromEntries(keys.map((key) => [key, {}]));
