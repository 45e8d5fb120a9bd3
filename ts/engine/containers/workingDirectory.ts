import { lstatSync } from 'node:fs';
import { join } from 'node:path';
import { CaissonError } from '../../errdefs.ts';
import type { ContainerDefinition } from '../../graph/containers.ts';
import type { ContainerConfig } from './config.ts';
import type { ContainerContext } from './context.ts';
import { forgetVolatile, overlayAt } from './spawn.ts';

/**
 * As Docker: it is there from the creation on, in the container's own layer, below whatever is mounted later: for `diff`,
 * `commit`, `export` and `cp`, and for the volumes that are filled from there. What a power cut takes of it the start makes.
 */
export async function makeWorkingDirectory(ctx: ContainerContext, definition: ContainerDefinition): Promise<void> {
  const { WorkingDir: workingDir } = JSON.parse(definition.config) as ContainerConfig;
  if (workingDir === '' || workingDir === '/') return;
  // the end of another kind of mount would be a sync of the whole filesystem
  const overlay = overlayAt(ctx, definition, true);
  if (hasDirectory(overlay.lower, workingDir)) return;
  try {
    await ctx.native.statArchive({ overlay, writable: true, workingDir }, `${workingDir}/.`);
  } catch (cause) {
    const details = { code: 'WORKDIR_UNUSABLE', hint: 'choose another working directory (--workdir)', cause };
    throw new CaissonError('System', `Cannot mkdir: ${workingDir} is not a directory`, details);
  } finally {
    forgetVolatile(overlay);
  }
}

/** False where that is not certain. What the topmost layer with a path's beginning has of it no other layer hides. */
function hasDirectory(layers: readonly string[], path: string): boolean {
  const names = path.split('/').filter((name) => name !== '');
  let at = layers.find((layer) => lstatSync(join(layer, names[0] ?? ''), { throwIfNoEntry: false }) !== undefined);
  for (const name of names) {
    if (at === undefined) return false;
    at = join(at, name);
    if (lstatSync(at, { throwIfNoEntry: false })?.isDirectory() !== true) return false;
  }
  return true;
}
