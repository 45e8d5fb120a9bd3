/** Where the compiled parts of caisson lie: in build/ of a checkout, in the package of this platform once installed. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { CaissonError } from './errdefs.ts';
import { packageRoot } from './packageRoot.ts';

/** As @napi-rs/cli names the platforms that it builds for. */
const PLATFORM = `linux-${process.arch}-gnu`;
export const ADDON = `caisson.${PLATFORM}.node`;

/** Absolute path of a compiled file. Throws with what to do when this machine has none. */
export function nativeFile(name: typeof ADDON | 'caisson-shim' | 'caisson-runtime' | 'docker-default.bin'): string {
  const built = join(packageRoot, 'build', name);
  if (existsSync(built)) return built;
  const platformPackage = `caisson-${PLATFORM}`;
  try {
    return join(dirname(createRequire(import.meta.url).resolve(`${platformPackage}/package.json`)), name);
  } catch (cause) {
    throw new CaissonError('Unavailable', `${name} is missing: neither ${built} nor the package ${platformPackage}`, {
      cause,
      hint: existsSync(join(packageRoot, 'Cargo.toml'))
        ? 'build it: npm ci && npm run build'
        : `caisson runs on Linux x64 and arm64 with glibc; install it there without --omit=optional`,
    });
  }
}
