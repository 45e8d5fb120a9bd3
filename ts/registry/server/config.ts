/**
 * The registry's settings: flags, then its config file (JSON, the same names), then defaults. Unknown ones are refused,
 * and so is one given in both places.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { CaissonError } from '../../errdefs.ts';
import type { LogLevel } from '../../log.ts';
import { ACTIONS, type Action, EVERYTHING, type Right } from './auth/rights.ts';

export interface RetentionRule {
  repositories: readonly string[];
  /** The newest ones; others go. */
  keepTags?: number;
  /** Manifests that no tag and no index names go after this time. */
  untaggedTtlMs?: number;
}

export interface Upstream {
  /** As it stands in the path, for example `docker.io`. */
  host: string;
  /** Where it is reached, when that is not the host itself: a URL. */
  url: string | undefined;
}

export interface TokenConfig {
  /** JSON Web Key Set: who signs and whose signatures count. '' : one made at the first start, in the root. */
  keys: string;
  issuer: string;
  service: string;
  /** URL of a token server elsewhere; '' : this registry's own at /token. */
  realm: string;
  ttlS: number;
}

export interface RegistryConfig {
  root: string;
  /** `address:port` */
  listen: string[];
  tls: { certificate: string; key: string } | undefined;
  /** `address:port` of the metrics; '' for none. */
  metrics: string;
  allowDelete: boolean;
  /** Manifests may be pushed before their blobs, or without some of them. */
  allowSparse: boolean;
  /** '' : nobody logs in, everybody may everything. */
  htpasswd: string;
  tokens: TokenConfig | undefined;
  rights: readonly Right[];
  upstreams: readonly Upstream[];
  /** Host whose images are served by their bare names, as dockerd's --registry-mirror asks for them. */
  mirrorOf: string;
  insecureUpstreams: readonly string[];
  /** A docker config file with the credentials for upstreams; '' for none. */
  upstreamAuth: string;
  /** What was pulled through and not asked for since goes after this time; 0 keeps it. */
  upstreamTtlMs: number;
  /** For how long a tag of an upstream is served without asking there again. */
  upstreamFreshMs: number;
  retention: readonly RetentionRule[];
  uploadTtlMs: number;
  /** How long a blob that no manifest names is kept for a push that is under way. */
  blobGraceMs: number;
  collectEveryMs: number;
  logLevel: LogLevel;
  accessLog: boolean;
}

const HOUR = 3_600_000;

export const defaultConfig = (): RegistryConfig => ({
  root: '/var/lib/caisson-registry',
  listen: ['127.0.0.1:5000'],
  tls: undefined,
  metrics: '',
  allowDelete: false,
  allowSparse: false,
  htpasswd: '',
  tokens: undefined,
  rights: [],
  upstreams: [],
  mirrorOf: '',
  insecureUpstreams: [],
  upstreamAuth: '',
  upstreamTtlMs: 30 * 24 * HOUR,
  upstreamFreshMs: 0,
  retention: [],
  uploadTtlMs: 24 * HOUR,
  blobGraceMs: HOUR,
  collectEveryMs: 60_000,
  logLevel: 'info',
  accessLog: true,
});

/** Without users: everybody may everything. */
export const openRights: Pick<RegistryConfig, 'rights'> = { rights: [{ ...EVERYTHING, users: ['anonymous'] }] };

const invalid = (message: string): CaissonError => new CaissonError('InvalidParameter', message);

type Value = string | string[] | boolean | object[] | undefined;

interface Setting {
  kind: 'text' | 'list' | 'switch' | 'objects';
  help: string;
  set: (config: RegistryConfig, value: never) => void;
}

const text = (help: string, set: (config: RegistryConfig, value: string) => void): Setting => ({
  kind: 'text',
  help,
  set,
});
const list = (help: string, set: (config: RegistryConfig, value: string[]) => void): Setting => ({
  kind: 'list',
  help,
  set,
});
const flag = (help: string, set: (config: RegistryConfig, value: boolean) => void): Setting => ({
  kind: 'switch',
  help,
  set,
});
const objects = (help: string, set: (config: RegistryConfig, value: object[]) => void): Setting => ({
  kind: 'objects',
  help,
  set,
});

export const SETTINGS: Record<string, Setting> = {
  root: text('Directory of the blobs and the database', (c, v) => (c.root = absolute('root', v))),
  listen: list(
    'Address and port to serve on (default 127.0.0.1:5000)',
    (c, v) => (c.listen = v.map((a) => address('listen', a))),
  ),
  'tls-cert': text('Certificate chain, PEM', (c, v) => (c.tls = { certificate: v, key: c.tls?.key ?? '' })),
  'tls-key': text('Private key, PEM', (c, v) => (c.tls = { certificate: c.tls?.certificate ?? '', key: v })),
  metrics: text('Address and port of the Prometheus metrics', (c, v) => (c.metrics = address('metrics', v))),
  delete: flag('Let manifests, tags and blobs be deleted', (c, v) => (c.allowDelete = v)),
  sparse: flag('Take manifests whose blobs have not come', (c, v) => (c.allowSparse = v)),
  htpasswd: text('File of users, with bcrypt hashes', (c, v) => (c.htpasswd = absolute('htpasswd', v))),
  'anonymous-pull': flag('Who has not logged in may pull', (c, v) => {
    if (v) c.rights = [...c.rights, { ...EVERYTHING, users: ['anonymous'], actions: ['pull'] }];
  }),
  tokens: flag('Bearer tokens from an own token server in place of Basic', (c, v) => {
    if (v) c.tokens = tokens(c);
  }),
  'token-keys': text(
    'JSON Web Key Set that signs and verifies tokens',
    (c, v) => (tokens(c).keys = absolute('token-keys', v)),
  ),
  'token-issuer': text('Issuer that tokens must have (default caisson)', (c, v) => (tokens(c).issuer = v)),
  'token-service': text('Audience that tokens must have (default caisson-registry)', (c, v) => (tokens(c).service = v)),
  'token-realm': text(
    'URL of the token server, when it is not this registry',
    (c, v) => (tokens(c).realm = url('token-realm', v)),
  ),
  'token-ttl': text('Life of a token (default 5m)', (c, v) => (tokens(c).ttlS = duration('token-ttl', v) / 1000)),
  upstream: list('HOST[=URL] to pull through, as HOST/name; * for any', (c, v) => (c.upstreams = v.map(upstream))),
  'mirror-of': text('Upstream whose images are served by their bare names', (c, v) => (c.mirrorOf = v)),
  'insecure-upstream': list(
    'Host of an upstream without TLS or with any certificate',
    (c, v) => (c.insecureUpstreams = v),
  ),
  'upstream-auth': text(
    'Docker config file with credentials for upstreams',
    (c, v) => (c.upstreamAuth = absolute('upstream-auth', v)),
  ),
  'upstream-ttl': text(
    'How long what was pulled through is kept without being asked for (default 30d, 0s for ever)',
    (c, v) => (c.upstreamTtlMs = duration('upstream-ttl', v)),
  ),
  'upstream-fresh': text(
    'How long a pulled tag counts as new (default 0s)',
    (c, v) => (c.upstreamFreshMs = duration('upstream-fresh', v)),
  ),
  'keep-tags': text('Newest tags of each repository that are kept', (c, v) =>
    everywhere(c, { keepTags: count('keep-tags', v) }),
  ),
  'untagged-ttl': text('How long manifests without a tag are kept', (c, v) =>
    everywhere(c, { untaggedTtlMs: duration('untagged-ttl', v) }),
  ),
  'upload-ttl': text(
    'How long an upload may rest (default 24h)',
    (c, v) => (c.uploadTtlMs = duration('upload-ttl', v)),
  ),
  'blob-grace': text(
    'How long blobs that no manifest names are kept (default 1h)',
    (c, v) => (c.blobGraceMs = duration('blob-grace', v)),
  ),
  'collect-every': text(
    'Time between garbage collections (default 1m)',
    (c, v) => (c.collectEveryMs = duration('collect-every', v)),
  ),
  'log-level': text('trace, debug, info, warn, error, fatal', (c, v) => (c.logLevel = logLevel(v))),
  'access-log': flag('Log each request (default true)', (c, v) => (c.accessLog = v)),
  rights: objects('users, repositories and actions', (c, v) => (c.rights = [...c.rights, ...v.map(right)])),
  retention: objects(
    'repositories, keepTags and untaggedTtl',
    (c, v) => (c.retention = [...v.map(rule), ...c.retention]),
  ),
};

/** Flags of `caisson registry serve`, without the command's name. */
export function loadRegistryConfig(argv: readonly string[]): RegistryConfig {
  const given = parseFlags(argv);
  const path = given['config'] as string | undefined;
  const fromFile = path === undefined ? {} : readConfigFile(path);
  const config = defaultConfig();
  for (const [name, setting] of Object.entries(SETTINGS)) {
    if (given[name] !== undefined && fromFile[name] !== undefined)
      throw invalid(`the setting ${name} is given both by a flag and in ${path}`);
    const value = given[name] ?? fromFile[name];
    if (value !== undefined) setting.set(config, value as never);
  }
  return checked(config);
}

function checked(config: RegistryConfig): RegistryConfig {
  if (config.tls !== undefined && (config.tls.certificate === '' || config.tls.key === ''))
    throw invalid('tls-cert and tls-key go together');
  if (config.tokens !== undefined && config.htpasswd === '' && config.tokens.realm === '')
    throw invalid(
      'tokens need users to be given to: name an htpasswd file, or a token-realm elsewhere with its token-keys',
    );
  if (config.tokens !== undefined && config.tokens.realm !== '' && config.tokens.keys === '')
    throw invalid('a token-realm elsewhere needs the token-keys that it signs with');
  const known = config.htpasswd !== '' || config.tokens !== undefined;
  if (!known && config.rights.length > 0) throw invalid('rights need users: name an htpasswd file');
  if (!known) Object.assign(config, openRights);
  // Users without any rule of theirs may everything.
  else if (!config.rights.some(({ users }) => users.some((user) => user !== 'anonymous')))
    config.rights = [...config.rights, { ...EVERYTHING, users: ['*'] }];
  if (config.mirrorOf !== '' && !config.upstreams.some(({ host }) => host === config.mirrorOf))
    config.upstreams = [...config.upstreams, { host: config.mirrorOf, url: undefined }];
  return config;
}

function parseFlags(argv: readonly string[]): Record<string, Value> {
  const options: Record<string, { type: 'string' | 'boolean'; multiple?: boolean }> = { config: { type: 'string' } };
  for (const [name, { kind }] of Object.entries(SETTINGS))
    if (kind !== 'objects')
      options[name] = { type: kind === 'switch' ? 'boolean' : 'string', multiple: kind === 'list' };
  const args = argv.map((argument) => {
    const [, name = '', value] = /^--([a-z-]+)=(true|false)$/.exec(argument) ?? [];
    return SETTINGS[name]?.kind === 'switch' ? `--${value === 'true' ? '' : 'no-'}${name}` : argument;
  });
  try {
    return parseArgs({ args, options, strict: true, allowPositionals: false, allowNegative: true }).values as Record<
      string,
      Value
    >;
  } catch (error) {
    throw invalid(error instanceof Error ? error.message : String(error));
  }
}

function readConfigFile(path: string): Record<string, Value> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw invalid(`config file ${path}: ${(error as Error).message}`);
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
    throw invalid(`config file ${path}: not a JSON object`);
  for (const [name, value] of Object.entries(parsed)) {
    const kind = SETTINGS[name]?.kind;
    if (kind === undefined) throw invalid(`config file ${path}: unknown key ${JSON.stringify(name)}`);
    const wanted = { text: 'string', switch: 'boolean', list: 'string', objects: 'object' }[kind];
    const values: unknown[] =
      kind === 'list' || kind === 'objects' ? (Array.isArray(value) ? value : [undefined]) : [value];
    if (!values.every((one) => typeof one === wanted && one !== null))
      throw invalid(
        `config file ${path}: ${name} is not ${kind === 'text' ? 'a text' : kind === 'switch' ? 'true or false' : 'a list'}`,
      );
  }
  return parsed as Record<string, Value>;
}

function tokens(config: RegistryConfig): TokenConfig {
  config.tokens ??= { keys: '', issuer: 'caisson', service: 'caisson-registry', realm: '', ttlS: 300 };
  return config.tokens;
}

function everywhere(config: RegistryConfig, part: Partial<RetentionRule>): void {
  const last = config.retention.at(-1);
  if (last !== undefined && last.repositories[0] === '**') Object.assign(last, part);
  else config.retention = [...config.retention, { repositories: ['**'], ...part }];
}

function onlyKeys(what: string, value: object, keys: readonly string[]): Record<string, unknown> {
  for (const key of Object.keys(value))
    if (!keys.includes(key)) throw invalid(`${what}: unknown key ${JSON.stringify(key)}`);
  return value as Record<string, unknown>;
}

function texts(what: string, value: unknown): string[] {
  const given = typeof value === 'string' ? [value] : value;
  if (!Array.isArray(given) || given.length === 0 || !given.every((one) => typeof one === 'string'))
    throw invalid(`${what} is not a list of texts`);
  return given;
}

function right(value: object): Right {
  const { users, repositories, actions } = onlyKeys('rights', value, ['users', 'repositories', 'actions']);
  return {
    users: texts('rights: users', users),
    repositories: texts('rights: repositories', repositories),
    actions: texts('rights: actions', actions).map((action) => {
      if (!ACTIONS.includes(action as Action))
        throw invalid(`rights: ${JSON.stringify(action)} is none of ${ACTIONS.join(', ')}`);
      return action as Action;
    }),
  };
}

function rule(value: object): RetentionRule {
  const { repositories, keepTags, untaggedTtl } = onlyKeys('retention', value, [
    'repositories',
    'keepTags',
    'untaggedTtl',
  ]);
  return {
    repositories: texts('retention: repositories', repositories),
    ...(keepTags === undefined ? {} : { keepTags: count('retention: keepTags', String(keepTags)) }),
    ...(untaggedTtl === undefined ? {} : { untaggedTtlMs: duration('retention: untaggedTtl', String(untaggedTtl)) }),
  };
}

function upstream(value: string): Upstream {
  const [, host = '', where] = /^(\*|[a-z0-9.-]+(?::\d{1,5})?)(?:=(.+))?$/.exec(value) ?? [];
  if (host === '') throw invalid(`invalid upstream ${JSON.stringify(value)}: HOST or HOST=URL`);
  return { host, url: where === undefined ? undefined : url('upstream', where) };
}

export function duration(name: string, value: string): number {
  const [, number = '', unit = ''] = /^(\d{1,9}(?:\.\d+)?)(ms|s|m|h|d)$/.exec(value) ?? [];
  if (number === '')
    throw invalid(`invalid value ${JSON.stringify(value)} for ${name}: a time such as 30s, 5m, 24h or 7d`);
  return Number(number) * { ms: 1, s: 1000, m: 60_000, h: HOUR, d: 24 * HOUR }[unit as 's'];
}

function count(name: string, value: string): number {
  if (!/^\d{1,9}$/.test(value)) throw invalid(`invalid value ${JSON.stringify(value)} for ${name}: not a number`);
  return Number(value);
}

function absolute(name: string, value: string): string {
  if (!value.startsWith('/')) throw invalid(`${name}: ${JSON.stringify(value)} is not an absolute path`);
  return value;
}

function address(name: string, value: string): string {
  if (!/^(?:[\w.-]+|\[[0-9a-fA-F:.]+\]):\d{1,5}$/.test(value))
    throw invalid(`invalid value ${JSON.stringify(value)} for ${name}: not of the form address:port`);
  return value;
}

function url(name: string, value: string): string {
  const parsed = URL.canParse(value) ? new URL(value) : undefined;
  if (parsed === undefined || !/^https?:$/.test(parsed.protocol) || parsed.username !== '' || parsed.search !== '')
    throw invalid(`invalid value ${JSON.stringify(value)} for ${name}: not an http or https URL`);
  return value;
}

function logLevel(value: string): LogLevel {
  const levels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const;
  const found = levels.find((level) => level === value);
  if (found === undefined)
    throw invalid(`invalid value ${JSON.stringify(value)} for log-level: it is one of ${levels.join(', ')}`);
  return found;
}
