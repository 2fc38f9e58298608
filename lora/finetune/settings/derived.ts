/** Defaults that follow from other settings. They are the same in a job file and in a run on one machine. */

import { loraSchema } from '../../../protocol/job/manifest.ts';

/** Returns the block `lora` of a file. If it gives a rank but no alpha, alpha becomes twice the rank. */
export function withAlpha(lora: unknown): unknown {
  if (!isBlock(lora) || lora.alpha !== undefined) return lora;
  const rank = loraSchema.shape.rank.safeParse(lora.rank);
  // The check of the whole block reports a wrong rank.
  return lora.rank === undefined || !rank.success ? lora : { ...lora, alpha: 2 * rank.data };
}

/** Returns training settings in which the micro-batch is at most the whole batch. */
export function withinBatch<T extends { batchSize: number; microBatch: number }>(training: T): T {
  return { ...training, microBatch: Math.min(training.microBatch, training.batchSize) };
}

export function isBlock(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
