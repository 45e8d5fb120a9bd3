/** The command line of `caisson daemon`. */
import { parseArgs } from 'node:util';
import { invalid, wholeNumber } from './configValues.ts';
import type { Setting } from './settings.ts';

interface FlagOption {
  type: 'string' | 'boolean';
  short?: string;
  multiple?: boolean;
  refused?: boolean;
}

/** Every flag of `caisson daemon`: one for each setting, and those that are no setting by themselves. */
export const flagOptions = (settings: readonly Setting[]): Record<string, FlagOption> => ({
  'config-file': { type: 'string' },
  validate: { type: 'boolean' },
  feature: { type: 'string', multiple: true },
  'log-opt': { type: 'string', multiple: true },
  'default-network-opt': { type: 'string', multiple: true },
  'default-ulimit': { type: 'string', multiple: true },
  ...Object.fromEntries(
    settings.map(({ flag: name, kind, short, refused = false }): [string, FlagOption] => [
      name,
      {
        type: kind === 'boolean' ? 'boolean' : 'string',
        multiple: kind === 'strings',
        refused,
        ...(short === undefined ? {} : { short }),
      },
    ]),
  ),
});

/** By flag, as far as they are given. Kind InvalidParameter for one that is unknown, or has no value of its kind. */
export function parseFlags(argv: readonly string[], settings: readonly Setting[]): Map<string, unknown> {
  let values: Record<string, unknown>;
  try {
    values = parseArgs({
      args: argv.map((argument) => booleanValue(argument, settings)),
      options: flagOptions(settings),
      strict: true,
      allowPositionals: false,
      allowNegative: true,
    }).values;
  } catch (error) {
    throw invalid(error instanceof Error ? error.message : String(error));
  }
  for (const { flag: name } of settings.filter(({ kind, flag }) => kind === 'boolean' && flag.startsWith('no-'))) {
    // parseArgs takes a name that begins so for the negation of another
    if (values[name.slice(3)] === false) values[name] = true;
    delete values[name.slice(3)];
  }
  for (const setting of settings)
    if (setting.kind === 'number' && values[setting.flag] !== undefined)
      values[setting.flag] = wholeNumber(setting.flag, String(values[setting.flag]));
  return new Map(Object.entries(values));
}

/** `--icc=false`, as Go's flags take it, in the form that parseArgs takes. */
function booleanValue(argument: string, settings: readonly Setting[]): string {
  const match = /^--([a-z0-9-]+)=(true|false)$/.exec(argument);
  if (match?.[1] === undefined || !settings.some((s) => s.flag === match[1] && s.kind === 'boolean')) return argument;
  return match[2] === 'true' ? `--${match[1]}` : `--no-${match[1]}`;
}
