import type { ErrorKind } from '../index.ts';

/** Exit code of every kind of error. docs/exit-codes.md explains them. */
export const exitCodes: Readonly<Record<'ok' | ErrorKind, number>> = {
  ok: 0,
  failed: 1,
  usage: 2,
  notRunning: 3,
  notFound: 4,
  refused: 5,
  conflict: 6,
  timeout: 7,
  unhealthy: 8,
  paused: 9,
  disproved: 10,
  internal: 70,
  interrupted: 130,
};
