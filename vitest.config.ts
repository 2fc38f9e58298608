import { defineConfig } from 'vitest/config';
import { TEST_REGISTRY } from './test/utils/registry/registry-folder.ts';

/** Unit tests that replace modules, mostly those of Node. */
const MOCKS = [
  'test/unit/house/portability.test.ts',
  'test/unit/house/windows-paths.test.ts',
  'test/unit/node/kept-threads.test.ts',
];

/** The tiers of tests, in the order of their cost. CONTRIBUTING.md says which tests belong in which tier. */
const tiers = {
  // A worker loads the sources once for all its files, which halves the time. A file that mocks modules needs its own.
  unit: { testTimeout: 30_000, isolate: false, exclude: MOCKS },
  'unit-mocked': { testTimeout: 30_000, include: MOCKS },
  numerics: { testTimeout: 60_000 },
  sim: { testTimeout: 60_000 },
  e2e: { testTimeout: 120_000 },
  interop: { testTimeout: 120_000 },
};

export default defineConfig({
  test: {
    // Starts as many workers as the machine has processors. By default, vitest would leave one processor idle.
    maxWorkers: '100%',
    hookTimeout: 60_000,
    env: { SWARM_REGISTRY: TEST_REGISTRY },
    globalSetup: ['./test/utils/registry/registry-folder.ts'],
    projects: Object.entries(tiers).map(([name, options]) => ({
      extends: true,
      test: { name, include: [`test/${name}/**/*.test.ts`], ...options },
    })),
  },
});
