/** Commands of commander that take their arguments as docker's do. */
import { Command, CommanderError } from 'commander';
import { ExitCode } from './failure.ts';

export type FlagKind = 'switch' | 'text' | 'list';
/** As commander writes them (`-m, --memory <bytes>`), what it does, and whether it may be given again. */
export type Flag = readonly [flags: string, description: string, list?: 'list'];

export interface CommandShape {
  name: string;
  /** `[OPTIONS] IMAGE [COMMAND] [ARG...]` as commander writes arguments. */
  usage: string;
  summary: string;
  flags: readonly Flag[];
  examples: readonly string[];
  /** Options end at the first argument: the rest belongs to the container. */
  passThrough?: boolean;
  /** Exit code of a wrong command line. */
  usageCode?: number;
}

export interface Parsed<T> {
  flags: T;
  args: string[];
}

const collect = (value: string, former: string[]): string[] => [...former, value];

function build({ name, usage, summary, flags, examples, passThrough }: CommandShape): Command {
  const command = new Command(`caisson ${name}`)
    .description(summary)
    .usage(usage)
    .argument('[args...]')
    .helpOption('--help', 'Show this help')
    .exitOverride()
    .configureOutput({ writeErr: () => undefined, outputError: () => undefined });
  for (const [text, description, list] of flags)
    if (list) command.option(text, description, collect, []);
    else command.option(text, description);
  if (passThrough) command.passThroughOptions();
  command.addHelpText('after', `\nExamples:\n${examples.map((example) => `  ${example}`).join('\n')}`);
  return command;
}

/** Rejects with ExitCode for a wrong command line, and for `--help` after having shown it. */
export function parseArguments<T extends object>(shape: CommandShape, argv: readonly string[]): Parsed<T> {
  const command = build(shape);
  try {
    command.parse(spellOut(command, argv, shape.passThrough === true), { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) throw new ExitCode(0);
    const message = error.message
      .replace(/^error: /, '')
      .replace(/^unknown option '(-+)([^']*)'/, 'unknown flag: $1$2');
    throw new ExitCode(
      shape.usageCode ?? 125,
      `caisson: ${message}\n\nUsage:  caisson ${shape.name} ${shape.usage}\n\nRun 'caisson ${shape.name} --help' for more information`,
    );
  }
  return { flags: command.opts<T>(), args: command.args };
}

/** Kind of failure: how many arguments a command takes. */
export function requireArguments(shape: CommandShape, args: readonly string[], min: number, max = Infinity): void {
  if (args.length >= min && args.length <= max) return;
  const wanted =
    min === max ? `${min} argument${min === 1 ? '' : 's'}` : `at least ${min} argument${min === 1 ? '' : 's'}`;
  throw new ExitCode(
    shape.usageCode ?? 1,
    `caisson: 'caisson ${shape.name}' requires ${args.length > max && min !== max ? `at most ${max} arguments` : wanted}\n\nUsage:  caisson ${shape.name} ${shape.usage}\n\nRun 'caisson ${shape.name} --help' for more information`,
  );
}

/** `--switch=true|false`, which docker allows and commander does not; what follows the first argument stays as it is. */
function spellOut(command: Command, argv: readonly string[], passThrough: boolean): string[] {
  const out: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    const arg = argv[i] ?? '';
    if (arg === '--' || (passThrough && (!arg.startsWith('-') || arg === '-'))) return [...out, ...argv.slice(i)];
    const [, name = '', value] = /^(--[^=]+)(?:=(.*))?$/s.exec(arg) ?? [];
    const negative = `--no-${name.slice(2)}`;
    const has = (long: string): boolean => command.options.some((option) => option.long === long && option.isBoolean());
    const negatable = name !== '' && command.options.some((option) => option.long === negative);
    if (negatable || (value !== undefined && has(name))) {
      const on = value === undefined || /^(?:1|t|true)$/i.test(value);
      if (!on && !/^(?:0|f|false)$/i.test(value ?? ''))
        throw new CommanderError(1, 'caisson.boolean', `invalid argument "${value}" for "${name}" flag`);
      // What can be negated is on unless it is: commander knows the negative only.
      if (negatable && !on) out.push(negative);
      if (!negatable && on) out.push(name);
    } else {
      out.push(arg);
      if (takesNext(command, arg, value)) out.push(...argv.slice(i + 1, ++i + 1));
    }
  }
  return out;
}

/** Whether the value of the last flag in `arg` is the next argument. */
function takesNext(command: Command, arg: string, value: string | undefined): boolean {
  if (arg.startsWith('--'))
    return value === undefined && (command.options.find(({ long }) => long === arg)?.required ?? false);
  if (!arg.startsWith('-') || arg === '-') return false;
  for (let at = 1; at < arg.length; at++) {
    const option = command.options.find(({ short }) => short === `-${arg[at]}`);
    if (option?.required) return at === arg.length - 1;
  }
  return false;
}
