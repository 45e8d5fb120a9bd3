/**
 * Plugins of Docker's first protocol: HTTP servers that announce themselves in a directory,
 *
 *   /run/docker/plugins/NAME.sock (or NAME/NAME.sock)        the socket itself
 *   /etc/docker/plugins, /usr/lib/docker/plugins/NAME.spec   a text: unix:///path or tcp://host:port
 *                                               /NAME.json   Name, Addr and TLSConfig
 *
 * and answer `POST /Plugin.Activate` with what they implement. Found at their first use and then kept.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, extname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CaissonError } from '../../errdefs.ts';
import { callPlugin, type PluginAddress } from './call.ts';

export interface Plugin {
  name: string;
  /**
   * `method` is for example `AuthZPlugin.AuthZReq`; kind System, with the method's name, when it fails. One that does not
   * listen is waited for as one that is not there, if asked.
   */
  call(method: string, body: object, options?: { waits?: boolean }): Promise<Record<string, unknown>>;
}

/** As dockerd: a plugin may still be starting, or starting again. Fifteen seconds together. */
const PAUSES_MS = [1000, 2000, 4000, 8000];

const SOCKETS = '/run/docker/plugins';
const SPECIFICATIONS = ['/etc/docker/plugins', '/usr/lib/docker/plugins'];

interface Known {
  plugin: Plugin;
  implemented: string[];
}

export class Plugins {
  readonly #found = new Map<string, Known>();
  readonly #activating = new Map<string, Promise<Known>>();

  /** Kind NotFound when there is none of that name, or when it is of another sort. `waits`: for one that may come. */
  async get(name: string, implemented: string, { waits = true }: { waits?: boolean } = {}): Promise<Plugin> {
    const known = this.#found.get(name) ?? (await (waits ? this.#awaited(name) : this.#activate(name)));
    if (!known.implemented.includes(implemented))
      throw new CaissonError('NotFound', `plugin "${name}" does not implement "${implemented}"`);
    return known.plugin;
  }

  #awaited(name: string): Promise<Known> {
    const isAway = (error: unknown): boolean => error instanceof CaissonError && AWAY.has(error.code);
    // somebody else may have found it during a pause
    return patiently(async () => this.#found.get(name) ?? this.#activate(name), isAway);
  }

  /** Once, whoever else asks meanwhile. */
  #activate(name: string): Promise<Known> {
    const under = this.#activating.get(name);
    if (under !== undefined) return under;
    const begun = activate(name).then((known) => {
      this.#found.set(name, known);
      return known;
    });
    this.#activating.set(name, begun);
    const done = (): void => void this.#activating.delete(name);
    begun.then(done, done);
    return begun;
  }

  /** All that announce themselves, answer and implement it. */
  async all(implemented: string): Promise<Plugin[]> {
    const asked = announced().map((name) => this.get(name, implemented, { waits: false }));
    return (await Promise.allSettled(asked)).flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  }

  /** Names of those that have been used. */
  used(implemented: string): string[] {
    return [...this.#found].filter(([, one]) => one.implemented.includes(implemented)).map(([name]) => name);
  }
}

const AWAY = new Set(['PLUGIN_NOT_FOUND', 'PLUGIN_NOT_LISTENING']);

async function patiently<T>(attempt: () => Promise<T>, isAway: (error: unknown) => boolean): Promise<T> {
  for (const pauseMs of PAUSES_MS) {
    try {
      return await attempt();
    } catch (error) {
      if (!isAway(error)) throw error;
    }
    await sleep(pauseMs);
  }
  return attempt();
}

/** A directory of the same name may hold a plugin's files. */
function announced(): string[] {
  const names = [SOCKETS, ...SPECIFICATIONS].flatMap((dir) =>
    entries(dir).flatMap((entry) =>
      entry.isDirectory() ? [entry.name, ...entries(join(dir, entry.name)).map(({ name }) => name)] : [entry.name],
    ),
  );
  const plugins = names.filter((name) => ['.sock', '.spec', '.json'].includes(extname(name)));
  return [...new Set(plugins.map((name) => basename(name, extname(name))))].sort();
}

function entries(dir: string) {
  try {
    return readdirSync(dir, { withFileTypes: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

async function activate(name: string): Promise<Known> {
  const address = find(name);
  if (address === undefined)
    throw new CaissonError('NotFound', `plugin "${name}" not found`, {
      code: 'PLUGIN_NOT_FOUND',
      hint: `it is looked for as ${SOCKETS}/${name}.sock and as ${name}.spec or ${name}.json in ${SPECIFICATIONS.join(' and ')}`,
    });
  const plugin: Plugin = {
    name,
    call: (method, body, { waits = false } = {}) => {
      const call = () => callPlugin(address, method, body);
      return waits ? patiently(call, (error) => (error as CaissonError).code === 'PLUGIN_NOT_LISTENING') : call();
    },
  };
  const { Implements: implemented } = await plugin.call('Plugin.Activate', {});
  if (!Array.isArray(implemented)) throw new CaissonError('System', `plugin "${name}" does not say what it implements`);
  return { plugin, implemented: implemented.map(String) };
}

function find(name: string): PluginAddress | undefined {
  // it becomes a part of paths
  if (!/^[\w.:-]+$/.test(name) || name.startsWith('.')) return undefined;
  const places = (dir: string, ending: string): string[] => [
    join(dir, `${name}${ending}`),
    join(dir, name, `${name}${ending}`),
  ];
  const socket = places(SOCKETS, '.sock').find((path) => statSync(path, { throwIfNoEntry: false })?.isSocket());
  if (socket !== undefined) return { socketPath: socket };
  for (const path of SPECIFICATIONS.flatMap((dir) => [...places(dir, '.spec'), ...places(dir, '.json')])) {
    if (statSync(path, { throwIfNoEntry: false }) === undefined) continue;
    const text = readFileSync(path, 'utf8');
    return path.endsWith('.spec') ? parseAddress(path, text.trim()) : parseSpecification(path, text);
  }
  return undefined;
}

function parseAddress(path: string, address: string): PluginAddress {
  const socketPath = /^unix:\/\/(\/.+)$/.exec(address)?.[1];
  if (socketPath !== undefined) return { socketPath };
  const url = URL.canParse(address) ? new URL(address) : undefined;
  if (url === undefined || !['tcp:', 'http:', 'https:'].includes(url.protocol) || url.hostname === '')
    throw new CaissonError('InvalidParameter', `${path}: invalid address ${JSON.stringify(address)} of a plugin`);
  return { host: url.hostname, port: Number(url.port || 80), ...(url.protocol === 'https:' ? { tls: {} } : {}) };
}

interface Specification {
  Addr?: string;
  TLSConfig?: { InsecureSkipVerify?: boolean; CAFile?: string; CertFile?: string; KeyFile?: string };
}

function parseSpecification(path: string, text: string): PluginAddress {
  let specification: Specification;
  try {
    specification = JSON.parse(text) as Specification;
  } catch (cause) {
    throw new CaissonError('InvalidParameter', `${path}: ${(cause as Error).message}`, { cause });
  }
  const address = parseAddress(path, String(specification.Addr ?? ''));
  const { TLSConfig: tls } = specification;
  if (!tls || 'socketPath' in address) return address;
  const read = (file: string | undefined): { value?: Buffer } => (file ? { value: readFileSync(file) } : {});
  const [{ value: ca }, { value: cert }, { value: key }] = [read(tls.CAFile), read(tls.CertFile), read(tls.KeyFile)];
  const options = { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) };
  return { ...address, tls: { ...options, rejectUnauthorized: tls.InsecureSkipVerify !== true } };
}
