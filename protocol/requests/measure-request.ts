import { z } from 'zod';
import { bytesSchema, digestSchema } from '../ids.ts';
import { presetSchema } from '../job/manifest.ts';
import { MEASURED_BATCHES, MEASURED_ROWS, UPDATE_BYTES } from '../limits.ts';

/** Body of the request `measure`. */
export const measureSchema = z.strictObject({
  job: digestSchema,
  /** Digests of the checkpoint at which the figures are computed, and of its adapter. */
  parent: digestSchema,
  adapter: digestSchema,
  what: z.enum(['products', 'losses']),
  /** The batches. Each batch names its rows by their positions in the shuffled data of a round. */
  batches: z
    .array(
      z.strictObject({
        round: z.int().positive(),
        positions: z.array(z.int().nonnegative()).min(1).max(MEASURED_ROWS),
      }),
    )
    .min(1)
    .max(MEASURED_BATCHES),
  update: z
    .strictObject({
      digest: digestSchema,
      size: z.int().positive().max(UPDATE_BYTES),
      preset: presetSchema,
      /** Clipping factor of each tensor, as float32 in little-endian order. */
      scale: bytesSchema,
    })
    .nullable(),
});
