import type { Figures } from '../../protocol/messages.ts';
import { checkJudgement } from './judgement.ts';
import { measureScores, type ScoreReader } from './measure.ts';
import { earlierOf, type Published, type ScoreMismatch } from './published.ts';

export type { ScoreMismatch } from './published.ts';

/** Facts and functions that a witness needs to compute scores. */
export interface ScoreWitness extends ScoreReader {
  /** Number of rows in the job's data. */
  readonly rows: number;
  /**
   * Returns the shares of a node's scored updates in earlier merges, newest first. An update that failed its audit has
   * the share 0.
   * @default the earlier shares in the figures
   */
  earlier?(peer: string): readonly number[];
}

/**
 * Computes the scores of a round again, from the payloads and gradients of a witness. Published effects, gains and exact
 * effects may differ from the computed ones by the tolerance. Shares and beliefs are computed from the published
 * effects and gains, so they must equal the published shares and beliefs.
 * @returns the published figures that differ; empty if all are right
 */
export async function checkScores(figures: Figures, witness: ScoreWitness): Promise<ScoreMismatch[]> {
  const { rows } = witness;
  const earlier = (update: Published): readonly number[] =>
    witness.earlier?.(update.peer) ?? earlierOf(update);
  const found = checkJudgement(figures, { rows, earlier });
  const { mismatches } = await measureScores(figures, witness, { rows, earlier });
  return [...mismatches, ...found];
}
