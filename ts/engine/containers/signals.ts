/** Signals by name or number, as `--stop-signal` and `kill -s` take them. */
import { constants } from 'node:os';
import { CaissonError } from '../../errdefs.ts';

/** Names that Node does not list. */
const MORE: Record<string, number> = { CLD: 17, POLL: 29, UNUSED: 31 };
const SIGRTMIN = 34;
const SIGRTMAX = 64;

/** `TERM`, `SIGTERM`, `sigterm`, `15`, `RTMIN+3` → 15; kind InvalidParameter with Docker's text. */
export function parseSignal(text: string): number {
  const number = /^\d+$/.test(text) ? Number(text) : byName(text);
  if (number === undefined || number < 1 || number > SIGRTMAX) {
    throw new CaissonError('InvalidParameter', `invalid signal: ${text}`);
  }
  return number;
}

function byName(text: string): number | undefined {
  const name = text.toUpperCase().replace(/^SIG/, '');
  const realTime = /^RT(MIN|MAX)(?:([+-])(\d+))?$/.exec(name);
  if (realTime) {
    const base = realTime[1] === 'MIN' ? SIGRTMIN : SIGRTMAX;
    const found = base + (realTime[2] === '-' ? -1 : 1) * Number(realTime[3] ?? 0);
    return found >= SIGRTMIN && found <= SIGRTMAX ? found : undefined;
  }
  return constants.signals[`SIG${name}` as NodeJS.Signals] ?? MORE[name];
}
