/** Directories as tar archives: what `build` and `cp` send. */
import { create, type TarOptionsWithAliasesAsyncNoFile } from 'tar';

export type PackOptions = Omit<TarOptionsWithAliasesAsyncNoFile, 'jobs'> & { cwd: string };

/**
 * `paths` below `options.cwd`, directories with what is in them; read as it is consumed.
 * One job at a time: with more, tar (7.5.23) stops for ever where a directory has several names of one file and the
 * second of them is asked for until the first has been written.
 */
export function tarArchive(options: PackOptions, paths: string[]): AsyncIterable<Buffer> {
  return create({ ...options, jobs: 1 }, paths) as unknown as AsyncIterable<Buffer>;
}
