/** `--build-arg` and ARG: which variables an instruction sees. */
import { CaissonError } from '../../errdefs.ts';
import type { Platform } from '../../oci.ts';
import { parsePlatform } from '../images/platform.ts';
import { type Lookup, rawWords, resolve } from '../images/variables.ts';
import type { Statement } from './dockerfile.ts';
import { suggestion } from './suggestion.ts';

/** Everybody may use these without an ARG; they leave no trace in the image's history. */
const BUILTIN = ['HTTP_PROXY', 'HTTPS_PROXY', 'FTP_PROXY', 'NO_PROXY', 'ALL_PROXY'].flatMap((name) => [
  name,
  name.toLowerCase(),
]);

/** Null: named without a value. */
type Values = ReadonlyMap<string, string | null>;

/** Where ARG declares something. */
export interface Scope {
  /** The request has a value for it. */
  isGiven(name: string): boolean;
  /** `value`: its default. */
  declare(name: string, value: string | null): void;
}

export class BuildArgs implements Scope {
  /** Of the request. */
  readonly #given: Values;
  /** Of ARG before the first FROM, and the platforms. */
  readonly #global: Map<string, string | null>;
  /** Of ARG in this stage. */
  readonly #stage = new Map<string, string | null>();
  readonly #used: Set<string>;

  constructor(given: Values, platforms: Record<string, string>, of?: BuildArgs) {
    this.#given = given;
    this.#global = of === undefined ? new Map(Object.entries(platforms)) : of.#global;
    this.#used = of === undefined ? new Set() : of.#used;
  }

  /** For the next stage, which sees none of this one's. */
  stage(): BuildArgs {
    return new BuildArgs(this.#given, {}, this);
  }

  /** Before the first FROM. */
  get globalScope(): Scope {
    return {
      isGiven: (name) => this.isGiven(name),
      declare: (name, value) => {
        this.#global.set(name, value);
        this.#used.add(name);
      },
    };
  }

  declare(name: string, value: string | null): void {
    this.#stage.set(name, value);
    this.#used.add(name);
  }

  /** What FROM may use. */
  global(name: string): string | undefined {
    return this.isGlobal(name) ? this.#value(name, this.#global.get(name)) : undefined;
  }

  isGlobal(name: string): boolean {
    return this.#global.has(name) || BUILTIN.includes(name);
  }

  globals(): string[] {
    return [...this.#global.keys()];
  }

  /** What an instruction of the stage may use, and RUN has in its environment. */
  all(): Map<string, string> {
    const names = [...new Set([...this.#stage.keys(), ...BUILTIN])];
    return new Map(
      names.flatMap((name): [string, string][] => {
        const value = this.#value(name, this.#stage.get(name));
        return value === undefined ? [] : [[name, value]];
      }),
    );
  }

  /** A command that had another value is another command; proxies are the same wherever they lead. */
  isTold(name: string): boolean {
    return this.#stage.has(name) || !BUILTIN.includes(name);
  }

  unused(): string[] {
    return [...this.#given.keys()].filter((name) => !this.#used.has(name) && !BUILTIN.includes(name)).sort();
  }

  isGiven(name: string): boolean {
    return this.#given.get(name) != null;
  }

  #value(name: string, byDefault: string | null | undefined): string | undefined {
    return this.#given.get(name) ?? byDefault ?? this.#global.get(name) ?? undefined;
  }
}

/** `ARG a=1 b`: each with its default, in which the ones before are seen. */
export function declare({ text }: Pick<Statement, 'text'>, lookup: Lookup, scope: Scope): void {
  for (const word of rawWords(text)) {
    const at = word.indexOf('=');
    const name = at < 0 ? resolve(word, lookup) : word.slice(0, at);
    // a default that nobody needs may be as wrong as it likes
    scope.declare(name, at < 0 || scope.isGiven(name) ? null : resolve(word.slice(at + 1), lookup));
  }
}

/** What `FROM --platform` says; undefined when it says nothing. */
export function stagePlatform(
  { platform }: { platform: string },
  args: BuildArgs,
  host: Platform,
): Platform | undefined {
  const missing = new Set<string>();
  const text = resolve(platform, (name) => {
    const value = args.global(name);
    if (value === undefined) missing.add(name);
    return value;
  });
  const close = [...missing].map((name) => suggestion(name, args.globals())).find((name) => name !== undefined);
  const hint = close === undefined ? '' : ` (did you mean ${close}?)`;
  if (platform !== '' && text === '')
    throw new CaissonError('InvalidParameter', `empty platform value from expression ${platform}${hint}`);
  try {
    return parsePlatform(text, host);
  } catch (error) {
    const reason = `failed to parse platform ${platform}: ${(error as Error).message}`;
    throw new CaissonError('InvalidParameter', `${reason}${hint}`, { cause: error });
  }
}

/** The variables that BuildKit gives every build. */
export function platformArgs(target: Platform, build: Platform, stage: string): Record<string, string> {
  const of = (prefix: string, { os, architecture, variant = '' }: Platform): Record<string, string> => ({
    [`${prefix}PLATFORM`]: [os, architecture, ...(variant === '' ? [] : [variant])].join('/'),
    [`${prefix}OS`]: os,
    [`${prefix}ARCH`]: architecture,
    [`${prefix}VARIANT`]: variant,
  });
  return { ...of('TARGET', target), ...of('BUILD', build), TARGETSTAGE: stage || 'default' };
}
