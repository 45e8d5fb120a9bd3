/** What ADD and COPY take: files of the context or an image, here-documents, downloads, repositories. */
import { createHash } from 'node:crypto';
import { posix } from 'node:path';
import { CaissonError, isKind } from '../../errdefs.ts';
import type { Engine } from '../engine.ts';
import type { UsableImage } from '../images/names.ts';
import { type Lookup, resolve } from '../images/variables.ts';
import type { BuildInputs } from './builder.ts';
import { BuildContext } from './context.ts';
import type { CopyItem, FileContent, SingleFile } from './copy.ts';
import { type Heredoc, parseError, type Statement } from './dockerfile.ts';
import { gitContext, gitSourceOf } from './git.ts';
import { hashOf } from './listing.ts';
import { ImageSource, type Selection, type SourceItem } from './source.ts';
import { imageView } from './view.ts';

/** How ADD and COPY take what they name. */
export interface SourceOptions {
  /** In BuildKit's words. */
  lazy: boolean;
  /** Undefined: the build's context. */
  from: UsableImage | BuildContext | undefined;
  lookup: Lookup;
  selection: Selection;
  checksum: string | undefined;
  keepsGitDir: boolean;
  /** Of here-documents; now by default. */
  sourceDate: Date | undefined;
}

/** What one of the paths names. */
export async function copyItems(
  { name, line, heredocs }: Statement,
  path: string,
  how: SourceOptions,
  { engine, inputs, signal }: { engine: Engine; inputs: BuildInputs; signal: AbortSignal },
): Promise<CopyItem[]> {
  const { from, selection, checksum, keepsGitDir, lazy } = how;
  const heredoc = path.startsWith('<<')
    ? heredocs.find((one) => path.replace(/^<<-?/, '').replace(/["']/g, '') === one.name)
    : undefined;
  if (heredoc !== undefined) return [{ file: fileOf(heredoc, how) }];
  const { dir, client } = inputs;
  const repository = name === 'ADD' && from === undefined ? gitSourceOf(path) : undefined;
  if (repository !== undefined) {
    if (checksum !== undefined && (repository.checksum ?? checksum) !== checksum)
      throw parseError(line, `checksum mismatch ${checksum} != ${repository.checksum}`);
    const wanted = { ...repository, checksum: repository.checksum ?? checksum };
    const { subdir, hasSubmodules, keepsGitDir: keeps = keepsGitDir } = repository;
    const { context, commit } = await gitContext(wanted, { native: engine.native, dir, keepsGitDir, client, signal });
    // a checkout is never the same byte for byte: what it is of says what is in it
    const hashed = ({ hash }: SourceItem): string =>
      selection.exclude.length > 0 ? hash : hashOf('git', [commit, subdir, String(keeps), String(hasSubmodules)]);
    return (await context.find('.', selection)).map((item) => ({
      view: context.view,
      item: { ...item, hash: hashed(item) },
    }));
  }
  if (/^https?:\/\//.test(path)) {
    if (name === 'COPY') throw parseError(line, "source can't be a URL for COPY");
    const file = await inputs.downloads.file(path, { dir, checksum, signal });
    if (file.name === '' && !lazy)
      throw new CaissonError('InvalidParameter', `cannot determine filename for source ${path}`);
    return [{ file: { ...file, name: file.name || '__unnamed__' } }];
  }
  if (checksum !== undefined) throw parseError(line, 'checksum requires HTTP(S) or Git sources');
  try {
    const context = from ?? (await inputs.context([path]));
    if (context !== undefined && !(context instanceof BuildContext)) {
      const view = { overlay: await imageView(engine, dir, context.chainId) };
      const source = new ImageSource(engine.native, view, context.chainId ?? '');
      return (await source.find(path, selection)).map((item) => ({ view, item }));
    }
    if (context === undefined) throw new CaissonError('InvalidParameter', 'missing build context');
    return (await context.find(path, selection)).map((item) => ({
      view: context.view,
      item,
      localPath: context.pathOf(item.path),
    }));
  } catch (error) {
    if (!isKind(error, 'NotFound') && !isKind(error, 'InvalidParameter')) throw error;
    const message = lazy && isKind(error, 'NotFound') ? notFound(path) : `${name} failed: ${error.message}`;
    throw new CaissonError('InvalidParameter', message, { cause: error });
  }
}

/** What people and tools look for in what BuildKit says. */
const notFound = (path: string): string =>
  `failed to compute cache key: failed to calculate checksum of ref context: ${JSON.stringify(posix.join('/', path))}: not found`;

function fileOf({ name, content, literal }: Heredoc, { lookup, sourceDate = new Date() }: SourceOptions): SingleFile {
  const text = literal
    ? content
    : content.replace(/\\(.)|\$(\w+|\{[^}]*\})/gs, (all, escaped?: string) => escaped ?? resolve(all, lookup));
  const bytes = Buffer.from(text);
  const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
  const read = (): Promise<FileContent> =>
    Promise.resolve({ content: bytes, bytes: bytes.length, mtimeMs: sourceDate.getTime() });
  return { name, digest, mode: 0o644, read };
}
