/** Times as `--since` and `--until` take them: a date, seconds since 1970, or an age like `10m`. */
import { invalidFlag, parseDuration } from './units.ts';

/** Seconds since 1970, with nine decimals. */
export function timestamp(text: string): string {
  if (/^\d+(?:\.\d{1,9})?$/.test(text)) return text;
  if (/^[\d.]+(?:ns|us|µs|ms|s|m|h)/.test(text)) {
    const ms = Date.now() - parseDuration(text, '--since') / 1e6;
    return (ms / 1000).toFixed(9);
  }
  const ms = Date.parse(text);
  if (Number.isNaN(ms)) throw invalidFlag('--since', text, 'neither a date nor a duration');
  return (ms / 1000).toFixed(9);
}
