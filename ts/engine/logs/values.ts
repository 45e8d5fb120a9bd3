/** Sizes and flags in log options, as Go reads them. */
import { CaissonError } from '../../errdefs.ts';

const invalid = (message: string): CaissonError => new CaissonError('InvalidParameter', message);

/** `10m`; a file's size counts in thousands, a buffer's in 1024, as in Docker. */
export function parseSize(text: string, base: 1000 | 1024): number {
  const [, digits = '', unit = ''] = /^(\d+(?:\.\d+)?) ?([kmgtp]?)i?b?$/i.exec(text) ?? [];
  if (digits === '') throw invalid(`invalid size: '${text}'`);
  return Math.floor(Number(digits) * base ** ' kmgtp'.indexOf(unit.toLowerCase() || ' '));
}

export function parseFlag(text: string): boolean {
  if (/^(1|t|T|TRUE|true|True)$/.test(text)) return true;
  if (/^(0|f|F|FALSE|false|False)$/.test(text)) return false;
  throw invalid(`strconv.ParseBool: parsing ${JSON.stringify(text)}: invalid syntax`);
}
