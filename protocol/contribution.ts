import { z } from 'zod';

const count = z.int().positive();

/** What a node has contributed to a job, compared with all nodes whose updates were merged. */
export const contributionSchema = z.strictObject({
  /** Round of the checkpoint up to which the figures count. */
  round: count,
  /** Place of the node if all contributors are sorted by their tokens. The node with the most tokens has place 1. */
  place: count,
  /** Number of nodes whose updates were merged. */
  contributors: count,
  /** Number of tokens that the node trained on, in its merged updates. */
  tokens: count,
  /** Number of tokens in the merged updates of all nodes. */
  totalTokens: count,
});
/** What a node has contributed to a job, compared with all contributors. */
export type JobContribution = z.infer<typeof contributionSchema>;
