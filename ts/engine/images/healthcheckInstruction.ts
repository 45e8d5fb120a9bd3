/** HEALTHCHECK as a Dockerfile has it: `[--interval=30s …] CMD command`, or `NONE`. */
import { parseGoDuration } from '../../goDuration.ts';
import type { ImageRunConfig } from '../../oci.ts';

type Healthcheck = NonNullable<ImageRunConfig['Healthcheck']>;

const DURATIONS = {
  interval: 'Interval',
  timeout: 'Timeout',
  'start-period': 'StartPeriod',
  'start-interval': 'StartInterval',
} as const;

/** `command`: how the words behind CMD are read. Throws what `fail` makes of a reason. */
export function parseHealthcheck(
  text: string,
  command: (text: string) => string[] | undefined,
  fail: (reason: string) => Error,
): Healthcheck {
  const check: Healthcheck = {};
  let rest = text;
  for (;;) {
    const [all, name = '', value = ''] = /^--([\w-]+)=(\S+)\s+/.exec(rest) ?? [];
    if (all === undefined) break;
    rest = rest.slice(all.length);
    if (name === 'retries') {
      if (!/^[1-9]\d*$/.test(value)) throw fail(`--retries must be at least 1, not ${value}`);
      check.Retries = Number(value);
    } else if (Object.hasOwn(DURATIONS, name)) {
      check[DURATIONS[name as keyof typeof DURATIONS]] = nanoseconds(name, value, fail);
    } else throw fail(`unknown flag: ${name}`);
  }
  const [, kind = '', program = ''] = /^(\w+)(?:\s+([\s\S]+))?$/.exec(rest.trim()) ?? [];
  if (kind.toUpperCase() === 'NONE' && program === '') return { Test: ['NONE'] };
  if (kind.toUpperCase() !== 'CMD') throw fail(`unknown type ${JSON.stringify(kind)}: it is CMD or NONE`);
  if (program === '') throw fail('a command is missing behind HEALTHCHECK CMD');
  const words = command(program);
  return { ...check, Test: words === undefined ? ['CMD-SHELL', program] : ['CMD', ...words] };
}

/** Docker takes nothing shorter than a millisecond. */
function nanoseconds(name: string, text: string, fail: (reason: string) => Error): number {
  const ns = parseGoDuration(text);
  if (ns === undefined) throw fail(`${text} is no duration`);
  if (ns < 1e6) throw fail(`--${name} cannot be less than 1ms`);
  return ns;
}
