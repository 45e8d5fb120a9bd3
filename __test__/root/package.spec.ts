/** The packages as npm installs them: main package and platform package side by side, outside any checkout. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageRoot } from '../../ts/packageRoot.ts';
import { missing } from '../helpers/requires.ts';

const platform = `caisson-linux-${process.arch}-gnu`;
const manifest = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as {
  version: string;
  dependencies: Record<string, string>;
};

describe.skipIf(missing('root', 'build'))('installed from the packages', () => {
  let dir: string;
  let modules: string;
  const env = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env['PATH']}`, CAISSON_HOST: '' };
  const run = (program: string, ...args: string[]) =>
    spawnSync(join(modules, 'caisson/bin', program), args, { encoding: 'utf8', env, cwd: dir });

  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'caisson-package-'));
    modules = join(dir, 'node_modules');
    execFileSync(join(packageRoot, 'scripts/package'), ['--built'], { stdio: 'pipe' });
    for (const name of ['caisson', platform]) {
      mkdirSync(join(modules, name), { recursive: true });
      const packed = join(packageRoot, 'build/packages', `${name}-${manifest.version}.tgz`);
      execFileSync('tar', ['-xzf', packed, '-C', join(modules, name), '--strip-components=1']);
    }
    for (const name of Object.keys(manifest.dependencies)) {
      mkdirSync(dirname(join(modules, name)), { recursive: true });
      symlinkSync(join(packageRoot, 'node_modules', name), join(modules, name));
    }
  });
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  it('names its platform packages in its own version', () => {
    const installed = JSON.parse(readFileSync(join(modules, 'caisson/package.json'), 'utf8')) as Record<
      string,
      unknown
    >;
    expect(installed['optionalDependencies']).toEqual({
      'caisson-linux-x64-gnu': manifest.version,
      'caisson-linux-arm64-gnu': manifest.version,
    });
    expect(installed).not.toHaveProperty('scripts');
  });

  it('runs the CLI and the runtime', () => {
    expect(run('caisson', '--help').stdout).toContain('Usage');
    expect(run('caisson-runtime', '--version').stdout).toContain('caisson-runtime version');
  });

  it('gives the typed library', () => {
    const script = "import { Caisson } from 'caisson'; console.log(typeof Caisson);";
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      encoding: 'utf8',
      cwd: dir,
    });
    expect(stdout.trim(), stderr).toBe('function');
  });

  it('finds shim and addon in the platform package, and says what is missing without it', () => {
    const native = `import { loadNative } from '${modules}/caisson/dist/ts/engine/native/index.js'; console.log(typeof loadNative().spawnShim);`;
    const load = () =>
      spawnSync(process.execPath, ['--input-type=module', '-e', native], { encoding: 'utf8', cwd: dir });
    expect(load().stdout.trim()).toBe('function');
    rmSync(join(modules, platform), { recursive: true });
    expect(load().stderr).toContain(`nor the package ${platform}`);
    const runtime = run('caisson-runtime', '--version');
    expect(runtime.status).toBe(125);
    expect(runtime.stderr).toContain('no program for');
  });
});
