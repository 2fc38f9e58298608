/**
 * Fractions of a job's outer rate at which a merge may pass the gate (coordinator/merge/gate.ts). A checkpoint with
 * another rate is proof against its coordinator. All fractions are powers of two, so the product with the outer rate is
 * exact.
 */
export const OUTER_RATE_FRACTIONS = { whole: 1, half: 1 / 2, quarter: 1 / 4 } as const;
