/** Commands of commander that take their arguments as docker's do. */
import { Command, CommanderError, Option } from 'commander';
import { ExitCode } from './failure.ts';

/** As commander writes them (`-m, --memory <bytes>`) and what it does; it may be given again (`list`), or is on unless it is said not to be (`on`). */
export type Flag = readonly [flags: string, description: string, kind?: 'list' | 'on'];

export interface CommandShape {
  name: string;
  /** `[OPTIONS] IMAGE [COMMAND] [ARG...]` as commander writes arguments. */
  usage: string;
  /** How many arguments: at least, and at most. */
  takes: readonly [min: number, max?: number];
  summary: string;
  flags: readonly Flag[];
  examples: readonly string[];
  /** Options end at the first argument: the rest belongs to the container. */
  passThrough?: boolean;
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
  for (const [text, description, kind] of flags) {
    if (kind === 'list') command.option(text, description, collect, []);
    else command.option(text, description, ...(kind === 'on' ? [true] : []));
    if (kind === 'on') command.addOption(new Option(text.replace(/^.*--/, '--no-')).hideHelp());
  }
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
    throw wrongUsage(shape, message);
  }
  return { flags: command.opts<T>(), args: command.args };
}

/** What is wrong with the flags, with the exit code that docker gives it. */
export const wrongUsage = (shape: CommandShape, message: string, code = 125): ExitCode =>
  new ExitCode(
    code,
    `caisson: ${message}\n\nUsage:  caisson ${shape.name} ${shape.usage}\n\nRun 'caisson ${shape.name} --help' for more information`,
  );

/** Rejects unless there are as many arguments as the command takes. */
export function requireArguments(shape: CommandShape, args: readonly string[]): void {
  const [min, max = Number.POSITIVE_INFINITY] = shape.takes;
  if (args.length >= min && args.length <= max) return;
  const plural = (count: number): string => `${count} argument${count === 1 ? '' : 's'}`;
  const wanted =
    max === 0
      ? 'accepts no arguments'
      : min === max
        ? `requires ${plural(min)}`
        : `requires at ${args.length > max ? `most ${plural(max)}` : `least ${plural(min)}`}`;
  throw wrongUsage(shape, `'caisson ${shape.name}' ${wanted}`, 1);
}

/** `--switch=true|false`, which docker allows and commander does not; what follows the first argument stays as it is. */
function spellOut(command: Command, argv: readonly string[], passThrough: boolean): string[] {
  const out: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    const arg = longForm(command, argv[i] ?? '');
    if (arg === '--' || (passThrough && (!arg.startsWith('-') || arg === '-'))) return [...out, ...argv.slice(i)];
    const [, name = '', value] = /^(--[^=]+)(?:=(.*))?$/s.exec(arg) ?? [];
    const option = command.options.find(({ long }) => long === name);
    const isSwitch = option !== undefined && !option.required && !option.optional;
    const negative = command.options.find(({ long }) => long === `--no-${name.slice(2)}`)?.long;
    if (negative !== undefined || (value !== undefined && isSwitch)) {
      const on = value === undefined || /^(?:1|t|true)$/i.test(value);
      if (!on && !/^(?:0|f|false)$/i.test(value ?? ''))
        throw new CommanderError(1, 'caisson.boolean', `invalid argument "${value}" for "${name}" flag`);
      if (on && option !== undefined) out.push(name);
      if (!on && negative !== undefined) out.push(negative);
    } else {
      out.push(arg);
      if (takesNext(command, arg, value)) out.push(...argv.slice(i + 1, ++i + 1));
    }
  }
  return out;
}

/** `-d=false`, `-e=A=b` */
function longForm(command: Command, arg: string): string {
  const [, short, value] = /^(-[^-])=(.*)$/s.exec(arg) ?? [];
  const long = command.options.find((option) => option.short === short)?.long;
  return long === undefined || long === null || value === undefined ? arg : `${long}=${value}`;
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
