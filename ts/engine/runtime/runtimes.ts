/**
 * OCI runtimes that containers may be given instead of our own: `--add-runtime NAME=PATH`, or `runtimes` of daemon.json, as
 * dockerd has them. Each is a command line (`PATH ARGS create …`), which the container's shim calls.
 */
import { CaissonError } from '../../errdefs.ts';

export interface OciRuntime {
  /** Looked up in PATH unless it has a slash. */
  path: string;
  /** Before all others. */
  args: string[];
}

export type OciRuntimes = Readonly<Record<string, OciRuntime>>;

export const OWN_RUNTIME = 'caisson';
/** What dockerd calls its default: whoever asks for it gets the default here too. */
const STOCK = 'runc';
const STOCK_SHIM = 'io.containerd.runc.v2';
/** Names that our own way to run containers goes by. */
const OWN_NAMES: readonly string[] = [OWN_RUNTIME, STOCK, STOCK_SHIM];

export const isOwnRuntime = (name: string): boolean => OWN_NAMES.includes(name);

const invalid = (message: string): CaissonError => new CaissonError('InvalidParameter', message);

/** The flag's list, or the object of the config file. */
export function parseRuntimes(given: string[] | Record<string, unknown>): OciRuntimes {
  return Array.isArray(given) ? parseFlags(given) : parseObject(given);
}

function parseFlags(given: string[]): OciRuntimes {
  const runtimes: Record<string, OciRuntime> = {};
  for (const text of given) {
    const [name = '', ...rest] = text.split('=').map((part) => part.trim());
    const path = rest.join('=');
    if (name === '' || path === '') throw invalid(`invalid runtime argument: ${text}`);
    // dockerd does not tell them apart by case
    const key = name.toLowerCase();
    checkReserved(key);
    if (Object.hasOwn(runtimes, key)) throw invalid(`runtime '${key}' was already defined`);
    runtimes[key] = { path, args: [] };
  }
  return runtimes;
}

function parseObject(given: Record<string, unknown>): OciRuntimes {
  return Object.fromEntries(
    Object.entries(given).map(([name, value]) => {
      checkReserved(name);
      if (typeof value !== 'object' || value === null) throw invalid(`runtime ${name}: it must be an object`);
      return [name, parseRuntime(name, value as Record<string, unknown>)];
    }),
  );
}

function checkReserved(name: string): void {
  if (isOwnRuntime(name)) throw invalid(`runtime name '${name}' is reserved`);
}

function parseRuntime(name: string, value: Record<string, unknown>): OciRuntime {
  const path = textOf(name, value, 'path');
  const type = textOf(name, value, 'runtimeType');
  const { runtimeArgs: args = [], options = {} } = value;
  if (!Array.isArray(args) || !args.every((one) => typeof one === 'string')) {
    throw invalid(`runtime ${name}: runtimeArgs must be a list of texts`);
  }
  if (typeof options !== 'object' || options === null) throw invalid(`runtime ${name}: options must be an object`);
  if (path === '' && type === '') {
    throw invalid(`runtime ${name}: either a runtimeType or a path must be configured`);
  }
  if (path !== '' && type !== '') {
    throw invalid(`runtime ${name}: cannot configure both path and runtimeType for the same runtime`);
  }
  if (path !== '' && Object.keys(options).length > 0) {
    throw invalid(`runtime ${name}: options cannot be used with a path runtime`);
  }
  if (path !== '') return { path, args };
  if (args.length > 0) throw invalid(`runtime ${name}: args cannot be used with a runtimeType runtime`);
  return { path: binaryOf(name, type, options as Record<string, unknown>), args: [] };
}

/** containerd's shim for runc does nothing else than to call a runtime's command line. */
function binaryOf(name: string, type: string, options: Record<string, unknown>): string {
  const [other] = Object.keys(options).filter((key) => key !== 'BinaryName');
  if (type === STOCK_SHIM && other === undefined) return textOf(name, options, 'BinaryName') || STOCK;
  const what = type === STOCK_SHIM ? `the option ${other}` : `the runtimeType ${type}`;
  throw new CaissonError(
    'NotImplemented',
    `runtime ${name}: ${what} is not supported by caisson: it calls runtimes by the command line of OCI`,
    { code: 'OPTION_NOT_SUPPORTED', hint: 'name the runtime by its path' },
  );
}

function textOf(name: string, value: Record<string, unknown>, key: string): string {
  const text = value[key] ?? '';
  if (typeof text !== 'string') throw invalid(`runtime ${name}: ${key} must be a text`);
  return text;
}

export function checkDefaultRuntime(name: string, runtimes: OciRuntimes): void {
  if (isKnownRuntime(name, runtimes)) return;
  throw invalid(`specified default runtime '${name}' does not exist`);
}

export const isKnownRuntime = (name: string, runtimes: OciRuntimes): boolean =>
  Object.hasOwn(runtimes, name) || isOwnRuntime(name);

/** Undefined: our own. A container may have one that the daemon was told of when it was made, and now is not. */
export function foreignRuntime(name: string, runtimes: OciRuntimes): OciRuntime | undefined {
  if (!isKnownRuntime(name, runtimes)) throw invalid(`unknown or invalid runtime name: ${name}`);
  return Object.hasOwn(runtimes, name) ? runtimes[name] : undefined;
}
