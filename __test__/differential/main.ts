/**
 * npm run test:differential [-- --only TEXT]: some thousand requests, valid, odd and wrong, to dockerd 28.5 and to
 * caisson; status and shape of the answers are the same, or justified.ts says why not. Ours never is a 500, and its daemon
 * lives to the end. With `--dockerd SOCKET --caisson SOCKET` daemons that run already are asked.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startCaisson, startDockerd } from '../bench/daemons.ts';
import { busyboxTar } from '../helpers/image.ts';
import type { Answered, Asked } from './ask.ts';
import { JUSTIFIED } from './justified.ts';
import { requests } from './requests.ts';
import { difference } from './shape.ts';
import { Subject } from './subject.ts';

/** No request pulls. */
const NOWHERE = 'http://127.0.0.1:1';

const { values } = parseArgs({
  options: { only: { type: 'string' }, dockerd: { type: 'string' }, caisson: { type: 'string' } },
});
const dir = mkdtempSync(join(tmpdir(), 'caisson-differential-'));
const daemons =
  values.dockerd && values.caisson
    ? []
    : [await startDockerd(join(dir, 'dockerd'), NOWHERE), await startCaisson(join(dir, 'caisson'), NOWHERE)];
const sockets = [values.dockerd ?? daemons[0]?.socket ?? '', values.caisson ?? daemons[1]?.socket ?? ''];
const archive = await busyboxTar();
const [theirs, ours] = sockets.map((socket) => new Subject(socket, archive)) as [Subject, Subject];

const changes = ({ method }: Asked, { status }: Answered): boolean => !['GET', 'HEAD'].includes(method) && status < 400;

let count = 0;
let justified = 0;
const found: string[] = [];
const used = new Set<string>();
try {
  await Promise.all([theirs.tidy(), ours.tidy()]);
  for (const asked of requests()) {
    const line = `${asked.method} ${asked.path} ${String(asked.body ?? '').slice(0, 120)} ${asked.headers?.['Content-Type'] ?? ''}`;
    if (values.only && !line.includes(values.only)) continue;
    count++;
    const [theirAnswer, ourAnswer] = await Promise.all([theirs.ask(asked), ours.ask(asked)]);
    const differs =
      ourAnswer.status === 500 && theirAnswer.status !== 500
        ? `500: ${ourAnswer.text}`
        : difference(theirAnswer, ourAnswer);
    if (differs !== undefined) {
      const reason = JUSTIFIED.find(({ holds }) => holds(asked, theirAnswer, ourAnswer));
      if (reason) used.add(reason.why);
      if (reason) justified++;
      else {
        found.push(line);
        console.log(`${line}\n    ${differs}`);
      }
    }
    await Promise.all([
      changes(asked, theirAnswer) ? theirs.tidy() : undefined,
      changes(asked, ourAnswer) ? ours.tidy() : undefined,
    ]);
  }
  await Promise.all([theirs.close(), ours.close()]);
} finally {
  for (const daemon of daemons) await daemon.stop();
  rmSync(dir, { recursive: true, force: true });
}
if (!values.only)
  for (const { why } of JUSTIFIED)
    if (!used.has(why)) found.push(why) && console.log(`no request shows this difference any more: ${why}`);
console.log(`${count} requests, ${justified} differences with a reason, ${found.length} without`);
process.exitCode = found.length > 0 ? 1 : 0;
