/** Schemas of the requests with which a coordinator lets a scorer evaluate a checkpoint. */
import { z } from 'zod';
import { digestSchema } from '../ids.ts';
import { ADAPTER_BYTES, ANSWERS_BYTES, DETAIL_CHARACTERS, QUESTIONS_BYTES } from '../limits.ts';

const blobUpTo = (bytes: number) =>
  z.strictObject({ digest: digestSchema, size: z.int().positive().max(bytes) });

/** Body of the request `evaluate`. */
export const evaluateSchema = z.strictObject({
  job: digestSchema,
  adapter: blobUpTo(ADAPTER_BYTES),
  questions: blobUpTo(QUESTIONS_BYTES),
  /** Base bits with which the coordinator evaluates. Figures of other base bits could not be compared. */
  baseBits: z.literal([32, 8, 4]),
});

/** Body of the request `evaluation`: the digests of an earlier request `evaluate`. */
export const evaluationSchema = z.strictObject({
  job: digestSchema,
  adapter: digestSchema,
  questions: digestSchema,
});

/** State of an evaluation: the answer to the request `evaluation`. */
export const evaluationStateSchema = z.discriminatedUnion('state', [
  /** `done`: a number that grows while the node fetches files and answers questions. */
  z.strictObject({ state: z.literal('running'), done: z.int().nonnegative() }),
  z.strictObject({ state: z.literal('done'), answers: blobUpTo(ANSWERS_BYTES) }),
  z.strictObject({ state: z.literal('failed'), reason: z.string().max(DETAIL_CHARACTERS) }),
]);
