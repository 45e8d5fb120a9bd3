/** What a health check is: HEALTHCHECK of the image with the user's fields over it, Docker's defaults and rules. */
import { CaissonError } from '../../errdefs.ts';
import type { ImageRunConfig } from '../../oci.ts';
import type { CreateBody } from '../api/schemas/containers.ts';

/** As in Config: durations in nanoseconds, 0 or absent for the default. */
export interface Healthcheck {
  Test?: string[];
  Interval?: number;
  Timeout?: number;
  StartPeriod?: number;
  StartInterval?: number;
  Retries?: number;
}

/** What is run how often; undefined when nothing is. */
export interface HealthPlan {
  args: string[];
  intervalMs: number;
  timeoutMs: number;
  /** Until then failures do not count. */
  startPeriodMs: number;
  startIntervalMs: number;
  retries: number;
}

const FIELDS = ['Interval', 'Timeout', 'StartPeriod', 'StartInterval', 'Retries'] as const;
const MS = 1_000_000;

/** The image's check, each field of it replaced by the user's where he gives one. */
export function mergeHealthcheck(
  user: CreateBody['Healthcheck'],
  image: ImageRunConfig['Healthcheck'],
): Healthcheck | undefined {
  if (!user) return image ?? undefined;
  const merged: Healthcheck = {};
  const test = user.Test?.length ? user.Test : image?.Test;
  if (test) merged.Test = test;
  for (const field of FIELDS) {
    const value = user[field] || image?.[field];
    if (value) merged[field] = value;
  }
  return Object.keys(merged).length > 0 ? merged : undefined;
}

export function checkHealthcheck(check: Healthcheck | undefined): void {
  if (!check) return;
  const invalid = (message: string): CaissonError => new CaissonError('InvalidParameter', message);
  for (const field of ['Interval', 'Timeout', 'StartPeriod', 'StartInterval'] as const) {
    const value = check[field] ?? 0;
    if (value !== 0 && value < MS) throw invalid(`${field} in Healthcheck cannot be less than 1ms`);
  }
  if ((check.Retries ?? 0) < 0) throw invalid('Retries in Healthcheck cannot be negative');
  const [kind, ...args] = check.Test ?? [];
  if (kind === undefined || kind === '' || kind === 'NONE') return;
  if (kind !== 'CMD' && kind !== 'CMD-SHELL') {
    throw invalid(`unknown type of health check: ${kind}; it is NONE, CMD or CMD-SHELL`);
  }
  if (args.length === 0) throw invalid(`a health check of type ${kind} needs a command`);
}

export function healthPlan(check: Healthcheck | undefined, shell: string[] | undefined): HealthPlan | undefined {
  const [kind, ...command] = check?.Test ?? [];
  if (!check || (kind !== 'CMD' && kind !== 'CMD-SHELL')) return undefined;
  const ms = (value: number | undefined, fallback: number): number => (value ? value / MS : fallback);
  return {
    args: kind === 'CMD' ? command : [...(shell?.length ? shell : ['/bin/sh', '-c']), command.join(' ')],
    intervalMs: ms(check.Interval, 30_000),
    timeoutMs: ms(check.Timeout, 30_000),
    startPeriodMs: ms(check.StartPeriod, 0),
    startIntervalMs: ms(check.StartInterval, 5_000),
    retries: check.Retries || 3,
  };
}
