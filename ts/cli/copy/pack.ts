/** Files of this machine as a tar archive. */
import { tarArchive } from '../tarArchive.ts';
import { type CopyInfo, splitPath } from './paths.ts';

/** `to`: the name that the source has in the archive, where it is another one. */
export function pack(source: CopyInfo, to: string | undefined): AsyncIterable<Buffer> {
  const { dir, base } = splitPath(source.path);
  const name = to ?? source.renamed ?? base;
  // From inside of the directory, so that names of hard links are changed along.
  const inside = source.isDirectory;
  return tarArchive(
    {
      cwd: inside ? (base === '.' ? dir : `${dir}/${base}`) : dir,
      ...(inside && name !== '.' && { prefix: name }),
      ...(!inside && {
        onWriteEntry: (entry) => {
          entry.path = name;
        },
      }),
    },
    [inside ? '.' : `./${base}`],
  );
}
