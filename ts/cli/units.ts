/** Sizes, durations and numbers as docker's flags have them. */

import { CaissonError } from '../errdefs.ts';
import { parseGoDuration } from '../goDuration.ts';

/** A flag's value that is not one. */
export class FlagError extends CaissonError {}

export const invalidFlag = (flag: string, value: string, why: string): FlagError =>
  new FlagError('InvalidParameter', `invalid argument ${JSON.stringify(value)} for "${flag}" flag: ${why}`);

/** `512m`, `1.5GiB`, `1024`: bytes; units are powers of 1024. */
export function parseSize(text: string, flag: string): number {
  const [, number = '', unit = ''] = /^(\d+(?:\.\d+)?) ?(?:([kmgtp])i?b?|b)?$/i.exec(text) ?? [];
  if (number === '') throw invalidFlag(flag, text, `invalid size: '${text}'`);
  const bytes = Math.trunc(Number(number) * 1024 ** ' kmgtp'.indexOf(unit.toLowerCase() || ' '));
  if (!Number.isSafeInteger(bytes)) throw invalidFlag(flag, text, 'the size is too large');
  return bytes;
}

/** Go's `1h30m`, `500ms`: nanoseconds. */
export function parseDuration(text: string, flag: string): number {
  const ns = parseGoDuration(text);
  if (ns === undefined || ns < 0) throw invalidFlag(flag, text, `time: invalid duration "${text}"`);
  return ns;
}

export function parseInteger(text: string, flag: string): number {
  if (!/^[+-]?\d+$/.test(text) || !Number.isSafeInteger(Number(text))) throw invalidFlag(flag, text, 'invalid syntax');
  return Number(text);
}

/** `1.5` processors: billionths of one. */
export function parseCpus(text: string, flag: string): number {
  if (!/^\d+(?:\.\d{0,9})?$/.test(text)) throw invalidFlag(flag, text, 'not a number with at most nine decimals');
  return Math.round(Number(text) * 1e9);
}

/** `2026-11-28 05:26:13 +0000 UTC`: a moment as Go writes it, in this machine's time zone. */
export function showTime(ms: number): string {
  const moment = new Date(ms);
  const offset = -moment.getTimezoneOffset();
  const two = (value: number): string => String(value).padStart(2, '0');
  const local = new Date(ms + offset * 60_000).toISOString();
  const zone = `${offset < 0 ? '-' : '+'}${two(Math.trunc(Math.abs(offset) / 60))}${two(Math.abs(offset) % 60)}`;
  const name = new Intl.DateTimeFormat('en', { timeZoneName: 'short' })
    .formatToParts(moment)
    .find(({ type }) => type === 'timeZoneName')?.value;
  return `${local.slice(0, 10)} ${local.slice(11, 19)} ${zone} ${name ?? zone}`;
}

/** `3 hours`, as docker shows ages. */
export function showAge(seconds: number): string {
  const s = Math.floor(Math.max(0, seconds));
  const [minutes, hours] = [Math.floor(s / 60), Math.round(s / 3600)];
  if (s < 1) return 'Less than a second';
  if (s === 1) return '1 second';
  if (s < 60) return `${s} seconds`;
  if (minutes === 1) return 'About a minute';
  if (minutes < 60) return `${minutes} minutes`;
  if (hours === 1) return 'About an hour';
  if (hours < 48) return `${hours} hours`;
  if (hours < 24 * 14) return `${Math.floor(hours / 24)} days`;
  if (hours < 24 * 60) return `${Math.floor(hours / 24 / 7)} weeks`;
  if (hours < 24 * 365 * 2) return `${Math.floor(hours / 24 / 30)} months`;
  return `${Math.floor(hours / 24 / 365)} years`;
}
