/** What may stand next on a command line: `caisson __complete WORD…`, the last word being the one that is typed. */
import type { CommandShape } from './arguments.ts';
import { COMMANDS, findCommand, GROUPS } from './commands.ts';
import { engine } from './connect.ts';

interface Candidate {
  word: string;
  about?: string;
}

/** A line each, with what it is behind a tab. A daemon that is not there is no failure: nothing is offered. */
export async function complete(words: readonly string[]): Promise<number> {
  const typed = words.at(-1) ?? '';
  const found = await candidates(words.slice(0, -1), typed).catch(() => []);
  for (const { word, about } of found)
    if (word.startsWith(typed)) process.stdout.write(about === undefined ? `${word}\n` : `${word}\t${about}\n`);
  return 0;
}

const named = (entries: Record<string, { summary: string }>): Candidate[] =>
  Object.entries(entries).map(([word, { summary }]) => ({ word, about: summary }));

async function candidates(before: readonly string[], typed: string): Promise<Candidate[]> {
  if (before.length === 0) return named({ ...COMMANDS, ...GROUPS });
  const found = findCommand(before);
  if (found.kind === 'group') return before.length === 1 ? named(found.group.commands) : [];
  if (found.kind === 'nothing') return [];
  const { shape } = (await found.entry.load()).default;
  return shape === undefined ? [] : ofCommand(shape, found.rest, typed);
}

async function ofCommand(shape: CommandShape, before: readonly string[], typed: string): Promise<Candidate[]> {
  const flags = shape.flags.map(([text, about]) => ({
    names: [...text.matchAll(/--?[\w-]+/g)].map(([name]) => name),
    text,
    about,
  }));
  const takesValue = (word: string): string | undefined =>
    flags.find(({ names, text }) => names.includes(word) && text.includes('<'))?.names.at(-1);
  const valued = takesValue(before.at(-1) ?? '');
  if (valued !== undefined) return ofFlag(valued);
  const positional: string[] = [];
  for (let i = 0; i < before.length; i++) {
    const word = before[i] ?? '';
    if (!word.startsWith('-')) positional.push(word);
    else if (takesValue(word) !== undefined) i++;
  }
  if (shape.passThrough && positional.length > 0) return [];
  if (typed.startsWith('-')) return flags.flatMap(({ names, about }) => names.map((word) => ({ word, about })));
  const wanted = shape.usage.replace(/^\[OPTIONS\] /, '').split(' ');
  const place = wanted[Math.min(positional.length, wanted.length - 1)] ?? '';
  return objects(/CONTAINER|IMAGE|NETWORK|VOLUME|NAME\|ID/.exec(place)?.[0] ?? '');
}

function ofFlag(flag: string): Promise<Candidate[]> | Candidate[] {
  switch (flag) {
    case '--network':
    case '--config-from':
      return objects('NETWORK');
    case '--volumes-from':
    case '--link':
      return objects('CONTAINER');
    case '--restart':
      return ['no', 'always', 'on-failure', 'unless-stopped'].map((word) => ({ word }));
    case '--pull':
      return ['always', 'missing', 'never'].map((word) => ({ word }));
    case '--format':
      return ['json', 'table'].map((word) => ({ word }));
    case '--log-driver':
      return ['json-file', 'local', 'none'].map((word) => ({ word }));
    case '--type':
      return ['container', 'image', 'network', 'volume'].map((word) => ({ word }));
    default:
      return [];
  }
}

async function objects(kind: string): Promise<Candidate[]> {
  const client = engine();
  switch (kind) {
    case 'CONTAINER':
      return (await client.containers.list({ all: true })).flatMap(({ Names, Image }) =>
        Names.map((name) => ({ word: name.replace(/^\//, ''), about: Image })),
      );
    case 'IMAGE':
      return (await client.images.list()).flatMap(({ RepoTags }) => (RepoTags ?? []).map((word) => ({ word })));
    case 'NETWORK':
      return (await client.networks.list()).map(({ Name, Driver }) => ({ word: Name, about: Driver }));
    case 'VOLUME':
      return (await client.volumes.list()).map(({ Name, Driver }) => ({ word: Name, about: Driver }));
    case 'NAME|ID':
      return (await Promise.all(['CONTAINER', 'IMAGE', 'NETWORK', 'VOLUME'].map(objects))).flat();
    default:
      return [];
  }
}
