import type { Manifest } from '../../protocol/job/manifest.ts';

/**
 * Returns the expected number of supervised tokens in `steps` optimiser steps: their rows times the mean number of
 * supervised tokens in a row. We use this number instead of the token count in the update, because the author of an
 * update can write any count into it.
 */
export function expectedTokens(
  steps: number,
  { data, training }: Pick<Manifest, 'data' | 'training'>,
): number {
  return (steps * training.batchSize * data.tokens) / data.rows;
}
