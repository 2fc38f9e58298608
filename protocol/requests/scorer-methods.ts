import { z } from 'zod';
import { MEASURED_BATCHES } from '../limits.ts';
import { evaluateSchema, evaluationSchema, evaluationStateSchema } from './evaluate-request.ts';
import { measureSchema } from './measure-request.ts';

/** The methods that a coordinator calls on nodes that offered to compute for it when they joined. */
export const scorerMethods = {
  /**
   * Computes figures of one update for its score, one for each batch of rows: the inner product of the gradient and the
   * update (`products`), or the mean loss with the update (`losses`). A request for `products` without an update makes
   * the node prepare the gradients, and returns no figures.
   */
  measure: {
    request: measureSchema,
    response: z.strictObject({ figures: z.array(z.number()).max(MEASURED_BATCHES) }),
    maxRequestBytes: 64 * 1024,
    maxResponseBytes: 256,
    quota: { calls: 2000, perMs: 10_000 },
  },
  /**
   * Makes a node evaluate a checkpoint: fetch its adapter and the questions, and answer the questions. Returns when the
   * node has begun. A repeated request begins nothing new.
   */
  evaluate: {
    request: evaluateSchema,
    response: z.strictObject({}),
    maxRequestBytes: 512,
    maxResponseBytes: 64,
    quota: { calls: 10, perMs: 10_000 },
  },
  /** Returns the state of an evaluation. A node ends an evaluation that its coordinator no longer asks for. */
  evaluation: {
    request: evaluationSchema,
    response: evaluationStateSchema,
    maxRequestBytes: 512,
    maxResponseBytes: 4096,
    quota: { calls: 20, perMs: 10_000 },
  },
} as const;
