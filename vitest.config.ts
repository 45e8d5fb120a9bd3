import { defineConfig } from 'vitest/config';

// unit: no privileges, no built addon. root: the real kernel, the built addon and shim; one file at a time, because
// the files measure what is left on the whole machine (cgroups, links, mounts).
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['__test__/unit/**/*.spec.ts', '__test__/architecture.spec.ts', '__test__/suites/**/*.spec.ts'],
        },
      },
      {
        test: {
          // what only another kernel shows; scripts/guest/run boots one
          name: 'guest',
          include: ['__test__/guest/**/*.spec.ts'],
          testTimeout: 180_000,
          hookTimeout: 180_000,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: 'root',
          include: ['__test__/root/**/*.spec.ts', '__test__/api/**/*.spec.ts', '__test__/density/**/*.spec.ts'],
          testTimeout: 180_000,
          hookTimeout: 180_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
