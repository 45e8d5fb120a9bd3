/**
 * What is asked of both daemons: for each endpoint a valid request, and from it the odd and the wrong ones. `{stopped}`,
 * `{running}`, `{network}`, … stand for what `main.ts` has made in each of them.
 */
import { createBody, execBody, execStartBody, updateBody } from '../../ts/engine/api/schemas/containers.ts';
import { connectBody, disconnectBody, networkCreateBody } from '../../ts/engine/api/schemas/networks.ts';
import { VolumeCreateRequest } from '../../ts/engine/api/schemas/volumes.ts';
import type { Asked } from './ask.ts';

interface Endpoint {
  method: string;
  path: string;
  /** Parameters of the query, with a value that is right. */
  query?: Record<string, string>;
  /** A body that is right, and the schema whose fields are gone through. */
  body?: object;
  schema?: object;
}

const IMAGE = 'diff.test/plain:1';

const ENDPOINTS: Endpoint[] = [
  { method: 'GET', path: '/_ping' },
  { method: 'HEAD', path: '/_ping' },
  { method: 'GET', path: '/version' },
  { method: 'GET', path: '/info' },
  { method: 'GET', path: '/system/df', query: { type: 'image' } },
  { method: 'GET', path: '/events', query: { since: '1', until: '2', filters: '{"type":["container"]}' } },
  {
    method: 'GET',
    path: '/containers/json',
    query: { all: '1', limit: '2', size: '1', filters: '{"status":["running"]}' },
  },
  { method: 'GET', path: '/containers/{stopped}/json', query: { size: '1' } },
  { method: 'GET', path: '/containers/{running}/json', query: { size: '1' } },
  { method: 'GET', path: '/containers/{running}/top', query: { ps_args: '-ef' } },
  { method: 'GET', path: '/containers/{stopped}/top' },
  {
    method: 'GET',
    path: '/containers/{running}/logs',
    query: { stdout: '1', stderr: '1', since: '1', until: '2', timestamps: '1', tail: '1', details: '1' },
  },
  { method: 'GET', path: '/containers/{stopped}/logs', query: { stdout: '1' } },
  { method: 'GET', path: '/containers/{running}/changes' },
  { method: 'GET', path: '/containers/{stopped}/stats', query: { stream: '0', 'one-shot': '1' } },
  { method: 'GET', path: '/containers/{running}/stats', query: { stream: '0', 'one-shot': '1' } },
  { method: 'HEAD', path: '/containers/{running}/archive', query: { path: '/bin' } },
  { method: 'GET', path: '/containers/{running}/archive', query: { path: '/etc' } },
  {
    method: 'PUT',
    path: '/containers/{running}/archive',
    query: { path: '/nope', noOverwriteDirNonDir: '1', copyUIDGID: '1' },
  },
  { method: 'POST', path: '/containers/{running}/resize', query: { h: '20', w: '80' } },
  { method: 'POST', path: '/containers/{stopped}/resize', query: { h: '20', w: '80' } },
  { method: 'POST', path: '/containers/{running}/start' },
  { method: 'POST', path: '/containers/{stopped}/stop', query: { t: '1', signal: 'SIGTERM' } },
  { method: 'POST', path: '/containers/{stopped}/kill', query: { signal: 'SIGTERM' } },
  // with its signal always: it has to live on
  { method: 'POST', path: '/containers/{running}/kill?signal=SIGWINCH' },
  { method: 'POST', path: '/containers/{stopped}/pause' },
  { method: 'POST', path: '/containers/{running}/unpause' },
  { method: 'POST', path: '/containers/{stopped}/rename', query: { name: 'diff-stopped' } },
  { method: 'POST', path: '/containers/{stopped}/wait', query: { condition: 'not-running' } },
  { method: 'POST', path: '/containers/{stopped}/attach', query: { logs: '0', stream: '0', stdout: '1' } },
  { method: 'DELETE', path: '/containers/{running}', query: { v: '0', link: '0' } },
  { method: 'POST', path: '/containers/prune', query: { filters: '{"label":["diff.nobody"]}' } },
  { method: 'POST', path: '/containers/create', body: { Image: IMAGE, Cmd: ['true'] }, schema: createBody },
  { method: 'POST', path: '/containers/{stopped}/update', body: {}, schema: updateBody },
  { method: 'POST', path: '/containers/{running}/exec', body: { Cmd: ['true'] }, schema: execBody },
  { method: 'POST', path: '/containers/{stopped}/exec', body: { Cmd: ['true'] } },
  { method: 'POST', path: '/exec/{exec}/start', body: { Detach: true }, schema: execStartBody },
  { method: 'GET', path: '/exec/{exec}/json' },
  { method: 'POST', path: '/exec/{exec}/resize', query: { h: '20', w: '80' } },
  {
    method: 'GET',
    path: '/images/json',
    query: { all: '1', 'shared-size': '1', digests: '1', manifests: '1', filters: '{"dangling":["true"]}' },
  },
  {
    method: 'GET',
    path: `/images/${IMAGE}/json`,
    query: { manifests: '1', platform: '{"os":"linux","architecture":"amd64"}' },
  },
  { method: 'GET', path: `/images/${IMAGE}/history` },
  { method: 'POST', path: `/images/${IMAGE}/tag`, query: { repo: 'diff.test/other', tag: '2' } },
  { method: 'DELETE', path: `/images/${IMAGE}`, query: { noprune: '1' } },
  { method: 'POST', path: '/images/prune', query: { filters: '{"label":["diff.nobody"]}' } },
  { method: 'GET', path: '/images/get', query: { names: 'diff.test/none:1' } },
  { method: 'GET', path: '/networks', query: { filters: '{"driver":["bridge"]}' } },
  { method: 'GET', path: '/networks/{network}', query: { verbose: '1', scope: 'local' } },
  { method: 'GET', path: '/networks/bridge' },
  { method: 'DELETE', path: '/networks/bridge' },
  { method: 'POST', path: '/networks/prune', query: { filters: '{"label":["diff.nobody"]}' } },
  { method: 'POST', path: '/networks/create', body: { Name: 'diff-made' }, schema: networkCreateBody },
  { method: 'POST', path: '/networks/{network}/connect', body: { Container: 'diff-none' }, schema: connectBody },
  { method: 'POST', path: '/networks/{network}/disconnect', body: { Container: 'diff-none' }, schema: disconnectBody },
  { method: 'GET', path: '/volumes', query: { filters: '{"dangling":["true"]}' } },
  { method: 'GET', path: '/volumes/diff-volume' },
  { method: 'DELETE', path: '/volumes/diff-none', query: { force: '1' } },
  { method: 'POST', path: '/volumes/prune', query: { filters: '{"label":["diff.nobody"]}' } },
  { method: 'POST', path: '/volumes/create', body: { Name: 'diff-made' }, schema: VolumeCreateRequest },
  {
    method: 'POST',
    path: '/commit',
    query: { container: 'diff-none', repo: 'diff.test/made', pause: '1', changes: 'CMD x' },
  },
  { method: 'GET', path: '/plugins', query: { filters: '{"enabled":["true"]}' } },
  { method: 'GET', path: '/plugins/diff-none/json' },
  { method: 'DELETE', path: '/plugins/diff-none' },
  ...['/swarm', '/nodes', '/services', '/tasks', '/secrets', '/configs'].map((path) => ({ method: 'GET', path })),
  { method: 'POST', path: '/swarm/leave' },
];

const JSON_TYPE = { 'Content-Type': 'application/json' };

const queried = (path: string, query: Record<string, string>): string =>
  Object.keys(query).length === 0
    ? path
    : `${path}?${new URLSearchParams(query).toString().replace(/%7B(\w+)%7D/g, '{$1}')}`;

/** In place of an id. */
const NAMES = ['diff-none', '{ambiguous}', 'zz0', '%20', 'a%2Fb', '-', '_', '%00', '%zz', '..', 'ä', 'x'.repeat(300)];
const VALUES = ['', '0', 'maybe', '-1', '1.5', '99999999999999999999', 'ä b', '[]', '{"x":{"y":true}}'];
const FILTERS = [
  'x',
  '[]',
  'null',
  '5',
  '{"nope":["x"]}',
  '{"label":"x"}',
  '{"label":{"x":true}}',
  '{"label":[5]}',
  '{"label":[]}',
  '{"dangling":["maybe"]}',
  '{"dangling":["true","false"]}',
  '{"status":["weird"]}',
  '{"name":["["]}',
  '{"id":["zzz"]}',
  '{"until":["maybe"]}',
  '{"before":["diff-none"]}',
  '{"since":["diff-none"]}',
  '{"driver":["nope"]}',
  '{"type":["weird"]}',
  '{"scope":["weird"]}',
  '{"exited":["x"]}',
  '{"health":["weird"]}',
  '{"ancestor":["diff.test/none"]}',
  '{"network":["diff-none"]}',
  '{"volume":["diff-none"]}',
  '{"publish":["x"]}',
  '{"expose":["x/y"]}',
  '{"reference":["["]}',
];
const VERSIONS = [
  'v1.23',
  'v1.24',
  'v1.30',
  'v1.40',
  'v1.43',
  'v1.47',
  'v1.51',
  'v1.52',
  'v9.9',
  'v1',
  'vx',
  'v1.51.1',
  'v01.51',
];
const BODIES: Pick<Asked, 'body' | 'headers'>[] = [
  {},
  { headers: JSON_TYPE },
  ...['', '{', '[]', 'null', '"x"', '5', '{}{}', '{"a":1,}', '{"a":1} x', '\ufeff{}'].map((body) => ({
    body,
    headers: JSON_TYPE,
  })),
  { body: '{}' },
  { body: '{}', headers: { 'Content-Type': 'text/plain' } },
  { body: '{}', headers: { 'Content-Type': 'application/json; charset=utf-8' } },
  { body: '{}', headers: { 'Content-Type': 'application/x-tar' } },
  { body: `{"a":"${'x'.repeat(5 * 1024 * 1024)}"}`, headers: JSON_TYPE },
];
const FIELD_VALUES: unknown[] = [5, -1, 1.5, 'x', '', true, [], ['x'], [5], {}, { x: 'y' }, { x: 5 }, null];

export function* requests(): Generator<Asked> {
  for (const endpoint of ENDPOINTS) {
    const { method, path, query = {}, body } = endpoint;
    const valid: Asked = {
      method,
      path: queried(path, query),
      ...(body ? { body: JSON.stringify(body), headers: JSON_TYPE } : {}),
    };
    yield { ...valid, path };
    yield valid;
    for (const version of VERSIONS) yield { ...valid, path: `/${version}${valid.path}` };
    yield { ...valid, path: `${path}/` };
    yield { ...valid, path: `${path}/nothing` };
    for (const other of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE']) {
      if (!ENDPOINTS.some((one) => one.method === other && one.path === path))
        yield { ...valid, method: other, path: `/v1.51${path}-x` };
    }
    const names = path.startsWith('/containers/') ? NAMES : NAMES.filter((name) => name !== '{ambiguous}');
    for (const name of /\{\w+\}/.test(path) ? names : []) yield { ...valid, path: valid.path.replace(/\{\w+\}/, name) };
    for (const name of Object.keys(query)) {
      for (const value of name === 'filters' ? FILTERS : VALUES) {
        yield { ...valid, path: queried(path, { ...query, [name]: value }) };
      }
    }
    if (method === 'POST') for (const wrong of BODIES) yield { method, path: valid.path, ...wrong };
    yield* fields(valid, endpoint);
  }
  for (const path of [
    '/',
    '/nothing',
    '/v1.51',
    '/v1.51/',
    '//',
    '//version',
    '/v1.51//version',
    '/x/../version',
    '/./version',
    '/version?x=%zz',
    '/%76ersion',
  ]) {
    for (const method of ['GET', 'POST']) yield { method, path };
  }
}

interface Shape {
  anyOf?: Shape[];
  properties?: Record<string, Shape>;
}

const objectOf = (shape: Shape | undefined): Shape | undefined =>
  shape?.properties ? shape : shape?.anyOf?.map(objectOf).find((one) => one !== undefined);

/** Each field of the body with each kind of value, and those of objects in it. */
function* fields(valid: Asked, { body = {}, schema }: Endpoint): Generator<Asked> {
  const properties = objectOf(schema as Shape | undefined)?.properties ?? {};
  const asked = (changed: object): Asked => ({ ...valid, body: JSON.stringify({ ...body, ...changed }) });
  for (const [name, shape] of Object.entries(properties)) {
    for (const value of FIELD_VALUES) yield asked({ [name]: value });
    yield { ...valid, body: `{"${name}":"a",${JSON.stringify({ ...body, [name]: 'b' }).slice(1)}` };
    for (const inner of Object.keys(objectOf(shape)?.properties ?? {})) {
      for (const value of FIELD_VALUES) yield asked({ [name]: { [inner]: value } });
    }
  }
}
