/** Types of the boundary's calls that move files: layers, and what is copied in and out of containers. */

import type { OverlayRootfs } from './containers.ts';
import type { NativeResult } from './failure.ts';

export interface LayerOptions {
  /** Directory that receives the files; it must not exist; made with the layer's root attributes. Removed on failure. */
  targetDir: string;
  /** When given, the layer is written to this file as it comes (made, synced; removed on failure). It stays as `keep` says. */
  blobPath?: string;
  /** `always` is what is done when it is absent. `compressed`: with a recipe only what came compressed; `withoutRecipe`: only
   * where there is none. */
  keep?: 'always' | 'compressed' | 'withoutRecipe';
  /** Digest and size that the received bytes must have; a mismatch fails with kind `corrupt`. */
  expectedDigest?: string;
  expectedSize?: number;
  expectedDiffId?: string;
  /** When given, what makes the archive again (`recreateLayer`) is written to this new file, unless `recipe` is false. */
  recipePath?: string;
}

export interface KeptBlob {
  digest: string;
  sizeBytes: number;
  compression: 'gzip' | 'zstd' | 'none';
}

export interface AppliedLayer {
  digest: string;
  sizeBytes: number;
  diffId: string;
  /** Sum of the regular files' sizes. */
  unpackedBytes: number;
  entries: number;
  /** What `blobPath` holds; null when it was not kept. */
  blob: KeptBlob | null;
  /** Whether `recipePath` was given and written: not of an archive whose files are not all in the directory afterwards. */
  recipe: boolean;
}

export interface PackOptions {
  /** The upper directory of a container's overlay. */
  upper: string;
  targetDir: string;
  /** Kept only without a recipe. */
  blobPath: string;
  recipePath: string;
}

/** What gives a layer's archive again. */
export interface LayerSource {
  directory: string;
  recipe: string;
  expectedDiffId: string;
}

/** One layer on its own threads: sha256 → inflate (gzip, zstd, none: told by its first bytes) → sha256 → tar → files. */
export interface LayerSink {
  /** Resolves when there is room for more; rejects with the pipeline's failure. The bytes are copied before it returns. */
  write(chunk: Uint8Array): Promise<NativeResult<null>>;
  end(): Promise<NativeResult<AppliedLayer>>;
  /** Stops the threads and removes what was made. Resolves when nothing is left. */
  abort(): Promise<NativeResult<null>>;
}

/** Whose root is a running container's: its init, or a process that has it at `root` in its mount namespace, without what is
 * mounted in the container. */
export interface RootHolder {
  pid: number;
  startTime: number;
  root?: string;
}

/** What a container sees: of a running one by its init, of a stopped one by what it would be started with. */
export interface ArchiveView {
  process?: RootHolder;
  overlay: OverlayRootfs;
  /** In the order in which they are mounted; not used with an init, like the rest. */
  mounts?: { source: string; subpath: string; destination: string; readOnly: boolean }[];
  readOnly?: boolean;
  /** The caller holds the container's lock: its writable layer is mounted as such. */
  writable?: boolean;
  /** Made where it is missing. */
  workingDir?: string;
}

export interface ArchiveReadOptions {
  /** What the path is called in the archive, by default its own last name; of a directory that is called '' the archive has
   * what is in it. */
  name?: string;
  /** What is left out with all that is below it, by its name in the archive. */
  except?: readonly string[];
}

export interface ArchiveWriteOptions {
  /** A directory may not take the place of something else, nor something else that of a directory. */
  keepKinds: boolean;
  /** `user[:group]`, in place of the archive's, looked up in the container. */
  owner?: string;
  /** As chmod takes it: of files and directories, starting from the archive's. */
  mode?: string;
}

export interface ArchivePathStat {
  size: number;
  /** `st_mode`. */
  mode: number;
  mtimeSeconds: number;
  mtimeNanoseconds: number;
  /** Where a symlink leads in the container; '' for anything else. */
  linkTarget: string;
}

export interface LayerChange {
  kind: 'modified' | 'added' | 'deleted';
  path: string;
}
