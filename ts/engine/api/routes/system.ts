/** Version, info, events. `/_ping` is answered by the front (server.ts). */
import { CaissonError } from '../../../errdefs.ts';
import type { Builds } from '../../builder/builds.ts';
import type { Engine } from '../../engine.ts';
import { diskUsage } from '../../system/diskUsage.ts';
import { EVENT_FILTERS, eventLine, followEvents } from '../../system/eventStream.ts';
import { systemInfo, versionInfo } from '../../system/info.ts';
import type { Call } from '../call.ts';
import type { Router } from '../router.ts';
import { parseTimestamp } from '../timestamps.ts';

export function systemRoutes(router: Router, engine: Engine, builds: Builds): void {
  router.plain({ method: 'GET', path: '/version', handle: () => versionInfo(engine) });
  router.plain({ method: 'GET', path: '/info', handle: (call) => infoOf(call, engine) });
  router.plain({
    method: 'GET',
    path: '/system/df',
    // clients before 1.42 ask for all
    handle: (call) => diskUsage(engine, builds, call.atLeast('1.42') ? call.query.all('type') : []),
  });
  router.plain({ method: 'POST', path: '/system/check', handle: (call) => check(call, engine) });
  router.plain({ method: 'GET', path: '/events', handle: (call) => events(call, engine) });
}

/** Our own: what is wrong with the store, one thing a line. */
async function check(call: Call<undefined>, { images }: Engine): Promise<undefined> {
  const lines = call.lines();
  const repair = call.query.bool('repair');
  lines.start();
  try {
    await images.check({ repair, emit: (line) => lines.write(line), signal: call.signal });
  } catch (error) {
    lines.fail(error);
    return;
  }
  lines.end();
}

/** Clients before 1.50 read of the bridge’s filters, which this engine does not use; those before 1.49 of no firewall. */
const infoOf = (call: Call<undefined>, engine: Engine): object => ({
  ...systemInfo(engine),
  ...(call.atLeast('1.50') ? {} : { BridgeNfIptables: false, BridgeNfIp6tables: false }),
  ...(call.atLeast('1.49') ? {} : { FirewallBackend: undefined }),
});

async function events(call: Call<undefined>, engine: Engine): Promise<undefined> {
  const until = parseTimestamp('until', call.query.string('until'));
  const query = {
    since: parseTimestamp('since', call.query.string('since')),
    // as Docker: before the epoch is never
    until: until !== undefined && until < 0n ? undefined : until,
    filters: call.query.filters(EVENT_FILTERS, 'ignored'),
  };
  if (query.since !== undefined && query.until !== undefined && query.since > query.until) {
    const [from, to] = [call.query.string('since'), call.query.string('until')];
    throw new CaissonError('InvalidParameter', `\`since\` time (${from}) cannot be after \`until\` time (${to})`);
  }
  const { signal } = call;
  const lines = call.lines();
  lines.start();
  for await (const event of followEvents(engine.graph.events, query, signal))
    if (!lines.writeText(eventLine(event))) await lines.drained();
  lines.end();
}
