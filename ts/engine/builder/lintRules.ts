/** BuildKit's checks of a Dockerfile by their names, and which of them count. */
import { CaissonError } from '../../errdefs.ts';
import { type Dockerfile, directiveOf } from './dockerfile.ts';

/** By name: what it is about. */
export const RULES = {
  StageNameCasing: 'Stage names should be lowercase',
  FromAsCasing: "The 'as' keyword should match the case of the 'from' keyword",
  NoEmptyContinuation: 'Empty continuation lines will become errors in a future release',
  ConsistentInstructionCasing: 'All commands within the Dockerfile should use the same casing (either upper or lower)',
  DuplicateStageName: 'Stage names should be unique',
  ReservedStageName: 'Reserved words should not be used as stage names',
  JSONArgsRecommended:
    'JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals',
  MaintainerDeprecated: 'The MAINTAINER instruction is deprecated, use a label instead to define an image author',
  UndefinedArgInFrom: 'FROM command must use declared ARGs',
  WorkdirRelativePath:
    'Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes',
  UndefinedVar: 'Variables should be defined before their use',
  MultipleInstructionsDisallowed: 'Multiple instructions of the same type should not be used in the same stage',
  LegacyKeyValueFormat: 'Legacy key/value format with whitespace separator should not be used',
  InvalidBaseImagePlatform: 'Base image platform does not match expected target platform',
  RedundantTargetPlatform:
    'Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior',
  SecretsUsedInArgOrEnv: 'Sensitive data should not be used in the ARG or ENV commands',
  InvalidDefaultArgInFrom: 'Default value for global ARG results in an empty or invalid base image name',
  FromPlatformFlagConstDisallowed: 'FROM --platform flag should not use a constant value',
  CopyIgnoredFile: 'Attempting to Copy file that is excluded by .dockerignore',
  InvalidDefinitionDescription:
    'Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.',
  ExposeProtoCasing: 'Protocol in EXPOSE instruction should be lowercase',
  ExposeInvalidFormat:
    'IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release',
} as const;

export type Rule = keyof typeof RULES;

/** Off unless asked for. */
const EXPERIMENTAL: readonly Rule[] = ['CopyIgnoredFile', 'InvalidDefinitionDescription'];

export interface LintWarning {
  rule: Rule;
  description: string;
  /** '' for a rule without a page. */
  url: string;
  detail: string;
  /** First and last line, from 1. */
  lines: [number, number];
}

/** `# check=skip=A,B;error=true;experimental=all`, or the build argument BUILDKIT_DOCKERFILE_CHECK. */
export interface LintOptions {
  skip: readonly string[];
  experimental: readonly string[];
  /** A warning fails the build. */
  isError: boolean;
}

/** `given`: by the request. */
export function lintOptionsOf({ text }: Dockerfile, given: string | undefined): LintOptions {
  return parseOptions(given ?? directiveOf(text, 'check') ?? '');
}

function parseOptions(text: string): LintOptions {
  const options = { skip: [] as string[], experimental: [] as string[], isError: false };
  for (const part of text.split(';').filter((one) => one.trim() !== '')) {
    const [, key = '', value = ''] = /^\s*([^=]*?)\s*=(.*)$/s.exec(part) ?? [];
    const list = value.split(',').map((name) => name.trim());
    if (key === 'skip') options.skip = list;
    else if (key === 'experimental') options.experimental = list;
    else if (key === 'error' && /^(true|false|0|1)$/i.test(value.trim()))
      options.isError = /^(true|1)$/i.test(value.trim());
    else throw new CaissonError('InvalidParameter', `invalid check option ${JSON.stringify(part.trim())}`);
  }
  return options;
}

export const isChecked = (rule: Rule, { skip, experimental }: LintOptions): boolean =>
  EXPERIMENTAL.includes(rule)
    ? experimental.some((name) => name === 'all' || name === rule)
    : !skip.some((name) => name === 'all' || name === rule);

/** Of Docker's documentation; '' where there is none. */
export const pageOf = (rule: Rule): string =>
  rule === 'InvalidBaseImagePlatform'
    ? ''
    : `https://docs.docker.com/go/dockerfile/rule/${rule.replace(/(?<=[a-z])(?=[A-Z])|(?<=JSON)/g, '-').toLowerCase()}/`;

/** Why warnings fail the build; undefined when they do not. */
export function violation(warnings: readonly LintWarning[], options: LintOptions): CaissonError | undefined {
  if (!options.isError || warnings.length === 0) return undefined;
  const rules = [...new Set(warnings.map(({ rule }) => rule))];
  return new CaissonError('InvalidParameter', `lint violation found for rules: ${rules.join(', ')}`);
}
