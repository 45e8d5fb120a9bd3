/** The rules of ARCHITECTURE.md that a machine can check: who may import whom, where unsafe may stand, dependencies explained. */
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { describe, expect, it } from 'vitest';
import { packageRoot } from '../ts/packageRoot.ts';

const read = (path: string): string => readFileSync(join(packageRoot, path), 'utf8');
const sources = (pattern: string): string[] => globSync(pattern, { cwd: packageRoot }).sort();

const LEAVES = [
  'errdefs',
  'log',
  'oci',
  'digest',
  'reference',
  'dockerignore',
  'strictJson',
  'async',
  'packageRoot',
  'nativeFiles',
  'humanSize',
  'goDuration',
  'late',
].map((name) => `ts/${name}.ts`);

/** Which parts a part may import, beside the leaves and itself. Wire types of the engine: `ts/engine/api/schemas/`. */
const ALLOWED: [part: string, mayImport: string[]][] = [
  ['ts/registry/', []],
  ['ts/graph/', []],
  ['ts/engine/', ['ts/registry/', 'ts/graph/']],
  ['ts/client/', ['ts/engine/api/schemas/']],
  ['ts/cli/', ['ts/client/', 'ts/engine/api/schemas/']],
];

function imports(file: string): string[] {
  const found = read(file).matchAll(/(?:from|import\()\s*'(\.[^']+)'/g);
  return [...found].map(([, target]) =>
    relative(packageRoot, normalize(join(packageRoot, dirname(file), target ?? ''))),
  );
}

describe('imports', () => {
  it('leaves import only leaves', () => {
    const wrong = LEAVES.filter((leaf) => sources('ts/*.ts').includes(leaf)).flatMap((leaf) =>
      imports(leaf)
        .filter((target) => !LEAVES.includes(target))
        .map((target) => `${leaf} imports ${target}`),
    );
    expect(wrong).toEqual([]);
  });

  it.each(ALLOWED)('%s imports only what it may', (part, mayImport) => {
    const wrong = sources(`${part}**/*.ts`).flatMap((file) =>
      imports(file)
        .filter(
          (target) => !LEAVES.includes(target) && ![part, ...mayImport].some((allowed) => target.startsWith(allowed)),
        )
        .map((target) => `${file} imports ${target}`),
    );
    // the commands that become a server are the doors from the CLI into it
    const doors = [
      'ts/cli/commands/daemon.ts imports ts/engine/daemon.ts',
      'ts/cli/commands/registry.ts imports ts/registry/server/main.ts',
    ];
    expect(wrong.filter((w) => !doors.includes(w))).toEqual([]);
  });

  it('only ts/engine/native/index.ts loads the addon', () => {
    expect(sources('ts/**/*.ts').filter((file) => /nativeFile\(ADDON\)/.test(read(file)))).toEqual([
      'ts/engine/native/index.ts',
    ]);
  });

  it('only ts/cli/tarArchive.ts, which keeps it from stopping for ever, creates with the tar package', () => {
    const creates = /import\s*{[^}]*\b(c|create|Pack)\b[^}]*}\s*from 'tar'/;
    expect(sources('{ts,__test__}/**/*.ts').filter((file) => creates.test(read(file)))).toEqual([
      'ts/cli/tarArchive.ts',
    ]);
  });

  it('nothing extracts with the tar package', () => {
    expect(
      sources('ts/**/*.ts').filter((file) =>
        /import\s*{[^}]*\b(x|extract|Unpack)\b[^}]*}\s*from 'tar'/.test(read(file)),
      ),
    ).toEqual([]);
  });
});

describe('rust', () => {
  it('has unsafe only under src/sys', () => {
    const wrong = sources('crates/**/*.rs')
      .filter((file) => !file.includes('/src/sys/'))
      .filter((file) => /\bunsafe\s*(\{|fn\b|impl\b|extern\b)/.test(read(file)));
    expect(wrong).toEqual([]);
  });

  it('keeps napi out of shim, init and runtime', () => {
    const wrong = sources('crates/libcontainer-sys/src/{shim,init,rootfs,cgroup,seccomp,runtime,sys}/**/*.rs').filter(
      (file) => /\bnapi::|napi_derive/.test(read(file)),
    );
    expect(wrong).toEqual([]);
  });

  it('uses netlink in the command line of the runtime alone', () => {
    const wrong = sources('crates/libcontainer-sys/src/**/*.rs')
      .filter((file) => !file.includes('/src/runtime/'))
      .filter((file) => /\bnetlink::/.test(read(file)));
    expect(wrong).toEqual([]);
  });
});

describe('dependencies', () => {
  const manifest = JSON.parse(read('package.json')) as {
    dependencies: Record<string, string>;
    devDependencies: Record<string, string>;
  };
  it.each(Object.keys({ ...manifest.dependencies, ...manifest.devDependencies }))(
    '%s has its sentence in CONTRIBUTING.md and an exact version',
    (name) => {
      expect(read('CONTRIBUTING.md')).toContain(`\`${name}\``);
      expect({ ...manifest.dependencies, ...manifest.devDependencies }[name]).toMatch(/^\d+\.\d+\.\d+/);
    },
  );
});
