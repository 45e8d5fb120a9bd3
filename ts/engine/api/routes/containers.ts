/** The container routes: parameters in, Docker's shapes out; what they do is in ts/engine/containers. */
import { CaissonError } from '../../../errdefs.ts';
import type { Containers } from '../../containers/containers.ts';
import { LIST_FILTERS } from '../../containers/list.ts';
import type { WaitCondition } from '../../containers/live.ts';
import type { Call } from '../call.ts';
import { currentCreate } from '../createVersions.ts';
import type { Router } from '../router.ts';
import { createBody, updateBody } from '../schemas/containers.ts';
import { notImplemented } from './unsupported.ts';

const CONDITIONS = new Set<string>(['not-running', 'next-exit', 'removed']);

export function containerRoutes(router: Router, containers: Containers): void {
  router.json({
    method: 'POST',
    path: '/containers/create',
    body: createBody,
    handle: async (call) => {
      const older = (version: string): boolean => !call.atLeast(version);
      const { id, warnings } = await containers.create(currentCreate(call.body, older), {
        name: call.query.string('name'),
        platform: older('1.41') ? '' : call.query.string('platform'),
        shallowReadOnly: older('1.44'),
        sharesCgroupns: older('1.41'),
      });
      call.status(201);
      return { Id: id, Warnings: warnings };
    },
  });
  router.plain({
    method: 'GET',
    path: '/containers/json',
    handle: (call) =>
      containers.list({
        all: call.query.bool('all'),
        limit: call.query.int('limit') ?? 0,
        size: call.query.bool('size'),
        annotations: call.atLeast('1.46'),
        filters: call.query.filters(LIST_FILTERS),
      }),
  });
  router.plain({
    method: 'POST',
    path: '/containers/prune',
    handle: async (call) => {
      const { ids, bytes } = await containers.prune(call.query.filters(['until', 'label', 'label!']));
      return { ContainersDeleted: ids.length > 0 ? ids : null, SpaceReclaimed: bytes };
    },
  });
  router.plain({
    method: 'GET',
    path: '/containers/:id/json',
    handle: (call) => containers.inspect(call.param('id'), call.query.bool('size')),
  });
  router.plain({
    method: 'GET',
    path: '/containers/:id/top',
    handle: (call) => containers.top(call.param('id'), call.query.string('ps_args')),
  });
  router.json({
    method: 'POST',
    path: '/containers/:id/update',
    body: updateBody,
    optionalBody: true,
    handle: async (call) => {
      const body = call.atLeast('1.40') ? call.body : { ...call.body, PidsLimit: null };
      const { warnings } = await containers.updater.update(call.param('id'), body);
      return { Warnings: warnings.length > 0 ? warnings : null };
    },
  });
  router.plain({ method: 'GET', path: '/containers/:id/stats', handle: (call) => containerStats(containers, call) });
  lifecycleRoutes(router, containers);
  unsupportedRoutes(router, containers);
}

async function containerStats(containers: Containers, call: Call): Promise<object | undefined> {
  const { id } = containers.find(call.param('id'));
  const reader = containers.stats();
  if (call.query.bool('stream', true) && call.query.bool('one-shot')) {
    throw new CaissonError('InvalidParameter', 'cannot have stream=true and one-shot=true');
  }
  if (!call.query.bool('stream', true)) {
    return call.query.bool('one-shot') ? reader.read(id) : reader.readTwice(id, call.signal);
  }
  const lines = call.lines();
  lines.start();
  for await (const reading of reader.stream(id, call.signal)) {
    if (!lines.write(reading)) await lines.drained();
  }
  lines.end();
  return undefined;
}

function lifecycleRoutes(router: Router, containers: Containers): void {
  const stopOptions = (call: Call): { timeoutS?: number | undefined; signal: string } => ({
    timeoutS: call.query.int('t'),
    signal: call.query.string('signal'),
  });
  const actions: [action: string, run: (id: string, call: Call) => Promise<void>][] = [
    ['start', (id, call) => startContainer(containers, id, call)],
    ['stop', (id, call) => containers.stop(id, stopOptions(call))],
    ['restart', (id, call) => containers.restart(id, stopOptions(call))],
    ['kill', (id, call) => containers.kill(id, call.query.string('signal'))],
    ['pause', (id) => containers.pause(id)],
    ['unpause', (id) => containers.unpause(id)],
    ['rename', (id, call) => containers.rename(id, call.query.string('name'))],
    ['resize', (id, call) => resizeContainer(containers, id, call)],
  ];
  for (const [action, run] of actions) {
    router.plain({
      method: 'POST',
      path: `/containers/:id/${action}`,
      handle: (call) => run(call.param('id'), call),
    });
  }
  router.plain({
    method: 'DELETE',
    path: '/containers/:id',
    handle: async (call) => {
      const id = call.param('id');
      if (call.query.bool('link')) return containers.removeLink(id);
      await containers.remove(id, { force: call.query.bool('force'), volumes: call.query.bool('v') });
    },
  });
  router.plain({ method: 'POST', path: '/containers/:id/wait', handle: (call) => waitForContainer(containers, call) });
}

async function startContainer(containers: Containers, id: string, call: Call): Promise<void> {
  const { 'content-length': length, 'transfer-encoding': encoding } = call.request.headers;
  // clients before 1.24 sent a HostConfig; `null` or an empty object is none
  if (Number(length ?? 0) > 7 || encoding !== undefined) {
    const message =
      'starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24';
    throw new CaissonError('InvalidParameter', message);
  }
  if (call.query.string('checkpoint')) throw notImplemented('start --checkpoint', 'restoring a checkpoint');
  await containers.start(id);
}

async function resizeContainer(containers: Containers, id: string, call: Call): Promise<void> {
  const { width, height } = terminalSize(call);
  await containers.resize(id, width, height);
  call.status(200);
}

/** `h` and `w` of a resize: what Docker takes as 32 bits, of which a terminal has 16. */
export function terminalSize(call: Call): { width: number; height: number } {
  const side = (name: 'height' | 'width'): number => {
    const text = call.query.string(name.slice(0, 1));
    const fail = (why: string): CaissonError =>
      new CaissonError('InvalidParameter', `invalid resize ${name} ${JSON.stringify(text)}: ${why}`);
    if (!/^[+-]?\d+$/.test(text)) throw fail('invalid syntax');
    const value = Number(text);
    if (value < 0 || value > 0xffffffff) throw fail('value out of range');
    return value & 0xffff;
  };
  return { height: side('height'), width: side('width') };
}

/** The head goes out at once: the docker client waits for it before it starts the container. */
async function waitForContainer(containers: Containers, call: Call): Promise<void> {
  const condition = call.query.string('condition') || 'not-running';
  if (!CONDITIONS.has(condition)) {
    throw new CaissonError('InvalidParameter', `invalid condition: "${condition}"`);
  }
  const lines = call.lines();
  const { signal } = call;
  const ended = containers.wait(call.param('id'), condition as WaitCondition, signal);
  lines.start();
  try {
    const { exitCode, error } = await ended;
    lines.write({ StatusCode: exitCode, ...(error ? { Error: { Message: error } } : {}) });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
  lines.end();
}

function unsupportedRoutes(router: Router, containers: Containers): void {
  const missing: ['GET' | 'POST' | 'PUT' | 'HEAD' | 'DELETE', string, string][] = [
    ['GET', 'checkpoints', 'checkpoints'],
    ['POST', 'checkpoints', 'checkpoints'],
    ['DELETE', 'checkpoints/:checkpoint', 'checkpoints'],
  ];
  for (const [method, path, what] of missing) {
    router.plain({
      method,
      path: `/containers/:id/${path}`,
      body: 'stream',
      handle: (call) => {
        call.stream.resume();
        containers.find(call.param('id'));
        throw notImplemented(`${method} /containers/{id}/${path}`, what);
      },
    });
  }
}
