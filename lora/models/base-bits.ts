/** Bits of a weight of the base's linear modules while it is computed with: a choice of each machine, never of a job. */
export const BASE_BITS = [32, 8, 4] as const;
export type BaseBits = (typeof BASE_BITS)[number];
