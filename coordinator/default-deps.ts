import { randomBytes } from 'node:crypto';
import type { CoordinatorDeps, RoundMeter } from './context.ts';

const noMeter: RoundMeter = {
  merge: () => {},
  gate: () => {},
  scoring: () => {},
  audit: () => {},
  refusal: () => {},
  join: () => {},
  unrecorded: () => {},
};

/** Throws outside of any promise, so that the process's handler of uncaught errors gets the error. */
function throwLater(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}

/** The dependencies of a coordinator that its caller may leave out. */
export const defaultDeps = {
  beforeTransaction: () => {},
  failpoint: () => {},
  fatal: throwLater,
  meter: noMeter,
  randomBytes,
} satisfies Partial<CoordinatorDeps>;
