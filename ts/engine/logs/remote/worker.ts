/** The thread that forwards logs: what containers write must not hold up the API. */
import { parentPort } from 'node:worker_threads';
import { loadNative } from '../../native/index.ts';
import { FluentdSender } from './fluentd.ts';
import { parseFluentd } from './fluentdOptions.ts';
import { Follower, type Report } from './follower.ts';
import type { Answer, Order, Route } from './forwarder.ts';
import { GelfSender } from './gelf.ts';
import { parseGelf } from './gelfOptions.ts';
import { JournaldSender } from './journald.ts';
import type { Sender } from './sender.ts';
import { SyslogSender } from './syslog.ts';
import { parseSyslog } from './syslogOptions.ts';

/** Handles are one table for the whole process: the daemon's own are small. */
const FIRST_HANDLE = 2 ** 31;
/** How long a removal waits at most, as dockerd does for a driver's end. */
const FINISH_MS = 10_000;

const native = loadNative();
const followers = new Map<string, Follower>();
let nextHandle = FIRST_HANDLE;

const tell = (answer: Answer): void => parentPort?.postMessage(answer);

function makeSender({ driver, options, subject }: Route): Sender {
  if (driver === 'syslog') return new SyslogSender(parseSyslog(options), subject, native);
  if (driver === 'fluentd') return new FluentdSender(parseFluentd(options), subject);
  if (driver === 'gelf') return new GelfSender(parseGelf(options), subject);
  return new JournaldSender(subject, native);
}

async function open(route: Route, { mustReach, running }: { mustReach: boolean; running: boolean }): Promise<void> {
  const { id } = route.subject;
  const sender = makeSender(route);
  try {
    if (mustReach) await sender.connect();
  } catch (error) {
    sender.close();
    throw error;
  }
  // of the run before, whose receiver is late: the new one goes on where it is
  await followers.get(id)?.abort();
  const report: Report = (level, message, fields) =>
    tell({ type: 'report', level, message, fields: { container: id, driver: route.driver, ...fields } });
  const { path, positionPath } = route;
  const follower = new Follower({ native, sender, report, handle: nextHandle++, path, positionPath });
  followers.set(id, follower);
  if (!running) follower.ended();
  void follower.done.then(() => {
    if (followers.get(id) !== follower) return;
    followers.delete(id);
    tell({ type: 'done', id });
  });
}

async function carryOut(order: Order): Promise<void> {
  if (order.type === 'open') return open(order.route, order);
  const follower = followers.get(order.id);
  if (order.type === 'ended') return follower?.ended();
  return follower?.finish(FINISH_MS);
}

parentPort?.on('message', (order: Order) => {
  carryOut(order).then(
    () => tell({ type: 'answer', call: order.call }),
    (error: unknown) => tell({ type: 'answer', call: order.call, error: (error as Error).message }),
  );
});
