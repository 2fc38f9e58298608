import { defineConfig } from 'vitest/config';

/** The tiers of tests, by cost; CONTRIBUTING.md says what belongs in which. */
const tiers = {
  unit: { testTimeout: 30_000 },
  numerics: { testTimeout: 60_000 },
  sim: { testTimeout: 60_000 },
  e2e: { testTimeout: 120_000 },
  interop: { testTimeout: 120_000 },
};

export default defineConfig({
  test: {
    // As many workers as the machine has processors: vitest alone would leave one idle.
    maxWorkers: '100%',
    hookTimeout: 60_000,
    projects: Object.entries(tiers).map(([name, options]) => ({
      extends: true,
      test: { name, include: [`test/${name}/**/*.test.ts`], ...options },
    })),
  },
});
