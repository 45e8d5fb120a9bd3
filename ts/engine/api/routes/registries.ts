/** What the daemon asks of registries without bringing anything here: logins, searches, what a name stands for, what a plugin wants. */
import Type, { type Static } from 'typebox';
import { CaissonError } from '../../../errdefs.ts';
import type { ImageConfig, Platform } from '../../../oci.ts';
import { parseReference } from '../../../reference.ts';
import type { Engine } from '../../engine.ts';
import { credentialsOf, parseCredentials } from '../../images/pull.ts';
import type { Call } from '../call.ts';
import { boolFilter } from '../query.ts';
import { pageNotFound, type Router } from '../router.ts';

const AuthConfig = Type.Object({
  username: Type.Optional(Type.String()),
  password: Type.Optional(Type.String()),
  auth: Type.Optional(Type.String()),
  serveraddress: Type.Optional(Type.String()),
  identitytoken: Type.Optional(Type.String()),
  registrytoken: Type.Optional(Type.String()),
});

const DEFAULT_LIMIT = 25;
const MAX_LIMIT = 100;

export function registryRoutes(router: Router, engine: Engine): void {
  router.json({ method: 'POST', path: '/auth', body: AuthConfig, handle: (call) => login(call, engine) });
  router.plain({ method: 'GET', path: '/images/search', handle: (call) => search(call, engine) });
  router.plain({ method: 'GET', path: '/distribution/*', handle: (call) => describe(call, engine) });
  router.plain({ method: 'GET', path: '/plugins/privileges', handle: (call) => privileges(call, engine) });
}

async function login({ body, signal }: Call<Static<typeof AuthConfig>>, engine: Engine): Promise<object> {
  // Docker Hub is known by the URL of its old index.
  const host = (body.serveraddress ?? '').replace(/^https?:\/\//, '').split('/')[0] ?? '';
  const domain = host === '' || host === 'index.docker.io' ? 'docker.io' : host;
  await engine.remote.checkAuth(domain, credentialsOf(body) ?? {}, signal);
  return { IdentityToken: '', Status: 'Login Succeeded' };
}

async function search(call: Call<undefined>, { remote }: Engine): Promise<object[]> {
  const { query } = call;
  const term = query.string('term');
  if (term === '') throw new CaissonError('InvalidParameter', 'term: what is searched for must be given');
  const given = query.string('limit');
  const limit = given === '' || given === '0' ? DEFAULT_LIMIT : Number(given);
  if (!Number.isInteger(limit) || limit < 1 || limit > MAX_LIMIT)
    throw new CaissonError('InvalidParameter', `limit ${given} is outside the range of [1, ${MAX_LIMIT}]`);
  const filters = query.filters(['is-automated', 'is-official', 'stars']);
  const official = boolFilter(filters, 'is-official');
  const automated = boolFilter(filters, 'is-automated');
  const stars = (filters.get('stars') ?? []).map((value) => {
    if (/^\d{1,9}$/.test(value)) return Number(value);
    throw new CaissonError('InvalidParameter', `invalid filter 'stars=${value}'`);
  });
  const credentials = parseCredentials(call.header('x-registry-auth'));
  const hits = await remote.search(term, { limit, credentials, signal: call.signal });
  return hits
    .filter((hit) => official === undefined || hit.isOfficial === official)
    .filter((hit) => automated === undefined || hit.isAutomated === automated)
    .filter((hit) => stars.every((least) => hit.starCount >= least))
    .map(({ name, description, starCount, isOfficial, isAutomated }) => ({
      star_count: starCount,
      is_official: isOfficial,
      name,
      is_automated: isAutomated,
      description,
    }));
}

/** Of an index the platforms that it offers, of a manifest its image's. */
async function describe(call: Call<undefined>, { remote }: Engine): Promise<object> {
  const path = call.param('*');
  if (!path.endsWith('/json') || path === '/json') throw pageNotFound();
  const reference = parseReference(path.slice(0, -'/json'.length));
  const credentials = parseCredentials(call.header('x-registry-auth'));
  const repository = remote.repository(reference, credentials);
  const { mediaType, digest, bytes, decoded } = await repository.describe(call.signal);
  const Platforms: Platform[] = [];
  if (decoded.kind === 'index')
    for (const { platform } of decoded.index.manifests) if (platform !== undefined) Platforms.push(platform);
  if (decoded.kind === 'manifest') {
    const config = await repository.fetchConfig(decoded, call.signal);
    const { os, architecture, variant } = JSON.parse(Buffer.from(config).toString()) as Partial<ImageConfig>;
    Platforms.push({ os: os ?? '', architecture: architecture ?? '', ...(variant ? { variant } : {}) });
  }
  return { Descriptor: { mediaType, digest, size: bytes.byteLength }, Platforms };
}

/** Of a managed plugin's config, as far as it asks for something. */
interface PluginConfig {
  Network?: { Type?: string };
  IpcHost?: boolean;
  PidHost?: boolean;
  Mounts?: { Source?: string | null }[] | null;
  Linux?: {
    AllowAllDevices?: boolean;
    Capabilities?: string[] | null;
    Devices?: { Path?: string | null }[] | null;
  };
}

/** What a managed plugin wants to be allowed, of which a client tells its user before it asks for the plugin. */
async function privileges(call: Call<undefined>, { remote }: Engine): Promise<object[]> {
  const reference = parseReference(call.query.string('remote'));
  const repository = remote.repository(reference, parseCredentials(call.header('x-registry-auth')));
  const text = Buffer.from(await repository.pluginConfig(call.signal)).toString();
  return privilegesOf(JSON.parse(text) as PluginConfig);
}

function privilegesOf({ Network, IpcHost, PidHost, Mounts, Linux }: PluginConfig): object[] {
  const network = Network?.Type ?? '';
  const sources = (Mounts ?? []).flatMap(({ Source }) => Source ?? []);
  const devices = (Linux?.Devices ?? []).flatMap(({ Path }) => Path ?? []);
  const capabilities = Linux?.Capabilities ?? [];
  const wanted: [boolean, string, string, string[]][] = [
    [!['', 'null', 'bridge'].includes(network), 'network', 'permissions to access a network', [network]],
    [IpcHost === true, 'host ipc namespace', 'allow access to host ipc namespace', ['true']],
    [PidHost === true, 'host pid namespace', 'allow access to host pid namespace', ['true']],
    ...sources.map((source): [boolean, string, string, string[]] => [true, 'mount', 'host path to mount', [source]]),
    ...devices.map((path): [boolean, string, string, string[]] => [true, 'device', 'host device to access', [path]]),
    [Linux?.AllowAllDevices === true, 'allow-all-devices', "allow 'rwm' access to all devices", ['true']],
    [capabilities.length > 0, 'capabilities', 'list of additional capabilities required', capabilities],
  ];
  return wanted.filter(([isWanted]) => isWanted).map(([, Name, Description, Value]) => ({ Name, Description, Value }));
}
