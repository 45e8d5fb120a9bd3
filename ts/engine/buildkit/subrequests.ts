/** What clients ask of the frontend beside building: `docker build --call check`, `outline` and `targets`. */
import { CaissonError } from '../../errdefs.ts';
import type { Dockerfile } from '../builder/dockerfile.ts';
import type { LintWarning } from '../builder/lintRules.ts';
import type { Outline, Target } from '../builder/outline.ts';

/** By name: what it answers. */
const REQUESTS: Record<string, string> = {
  'frontend.subrequests.describe': 'List available subrequest types',
  'frontend.lint': 'Lint a Dockerfile',
  'frontend.outline': 'List all parameters current build target supports',
  'frontend.targets': 'List all targets current build supports',
};

export type Metadata = Record<string, Uint8Array>;

export function checkRequest(name: string): void {
  if (!(name in REQUESTS)) throw new CaissonError('NotImplemented', `unsupported request ${name}`);
}

/** `text`: for clients that show it as it is. */
function answer(json: unknown, text: string, more: Record<string, string> = {}): Metadata {
  const parts = { 'result.json': JSON.stringify(json, undefined, 2), 'result.txt': text, version: '1.0.0', ...more };
  return Object.fromEntries(Object.entries(parts).map(([key, value]) => [key, new TextEncoder().encode(value)]));
}

const ranges = ([first, last]: readonly [number, number]): object => ({
  ranges: [{ start: { line: first }, end: { line: last } }],
});

const base64 = (text: string): string => Buffer.from(text).toString('base64');

export function describe(): Metadata {
  const requests = Object.entries(REQUESTS).map(([name, description]) => ({
    name,
    version: '1.0.0',
    type: 'rpc',
    description,
    opts: name === 'frontend.outline' ? [{ name: 'target', description: 'Target build stage' }] : [],
    inputs: null,
    metadata: [
      { name: 'result.json', description: '' },
      { name: 'result.txt', description: '' },
    ],
    refs: null,
  }));
  return answer(
    requests,
    table(
      ['NAME', 'VERSION', 'DESCRIPTION'],
      requests.map((one) => [one.name, one.version, one.description]),
    ),
  );
}

/** `error`: why it cannot be built. */
export function lintResult(
  { text, filename }: { text: string; filename: string },
  warnings: readonly LintWarning[],
  error: { message: string; lines: [number, number] } | undefined,
): Metadata {
  const lines = text.split('\n');
  const shown = warnings.map(({ rule, url, detail, lines: [first, last] }) => {
    const code = lines.slice(first - 1, last).map((line, at) => `${String(first + at).padStart(4)} | >>> ${line}`);
    const rulers = '--------------------';
    return `\nWARNING: ${rule}${url === '' ? '' : ` - ${url}`}\n${detail}\n${filename}:${first}\n${rulers}\n${code.join('\n')}\n${rulers}\n`;
  });
  const json = {
    warnings: warnings.map(({ rule, description, url, detail, lines: at }) => ({
      ruleName: rule,
      description,
      ...(url !== '' && { url }),
      detail,
      location: ranges(at),
    })),
    sources: [{ filename, language: 'Dockerfile', data: base64(text) }],
    ...(error && { buildError: { message: error.message, location: ranges(error.lines) } }),
  };
  const isClean = warnings.length === 0 && error === undefined;
  return answer(json, shown.join(''), { 'result.statuscode': isClean ? '0' : '1' });
}

export function outlineResult({ text }: Dockerfile, { name, description, args, secrets, agents }: Outline): Metadata {
  const loans = (list: Outline['secrets']): object[] =>
    list.map((one) => ({ name: one.name, ...(one.required && { required: true }), location: ranges(one.lines) }));
  const json = {
    ...(name && { name }),
    ...(description && { description }),
    args: args.map((one) => ({
      name: one.name,
      ...(one.description && { description: one.description }),
      ...(one.value && { value: one.value }),
      location: ranges(one.lines),
    })),
    secrets: loans(secrets),
    ssh: loans(agents),
    sources: [base64(text)],
  };
  const parts = [
    ...(name || description
      ? [`TARGET:      ${name || '(default)'}\n${description && `DESCRIPTION: ${description}\n`}`]
      : []),
    ...(args.length > 0
      ? [
          table(
            ['BUILD ARG', 'VALUE', 'DESCRIPTION'],
            args.map((one) => [one.name, one.value, one.description]),
          ),
        ]
      : []),
    ...[['SECRET', secrets] as const, ['SSH', agents] as const].flatMap(([title, list]) =>
      list.length > 0
        ? [
            table(
              [title, 'REQUIRED'],
              list.map((one) => [one.name, one.required ? 'true' : '']),
            ),
          ]
        : [],
    ),
  ];
  return answer(json, parts.map((part) => `${part}\n`).join(''));
}

export function targetsResult({ text }: Dockerfile, targets: readonly Target[]): Metadata {
  const json = {
    targets: targets.map(({ name, description, base, platform, isDefault, lines }) => ({
      ...(name && { name }),
      ...(isDefault && { default: true }),
      ...(description && { description }),
      ...(base && { base }),
      ...(platform && { platform }),
      location: ranges(lines),
    })),
    sources: [base64(text)],
  };
  const rows = targets.map(({ name, isDefault, description }) => [
    isDefault ? `${name} (default)`.trim() : name,
    description,
  ]);
  return answer(json, table(['TARGET', 'DESCRIPTION'], rows));
}

function table(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [titles, ...rows];
  const widths = titles.map((_, at) => Math.max(...all.map((row) => row[at]?.length ?? 0)));
  return all
    .map((row) => `${row.map((cell, at) => cell.padEnd(at === row.length - 1 ? 0 : (widths[at] ?? 0))).join('   ')}\n`)
    .join('');
}
