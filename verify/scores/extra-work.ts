/**
 * The budget of the extra work with which the coordinator checks the nodes: scores, exact effects and audits. The unit
 * is the gradient of one row, so training an interval of 160 rows costs 160.
 */

/** Maximum extra work of a job with default settings, as a fraction of the rows that the nodes train on. */
export const EXTRA_SHARE = 0.1;
/**
 * Maximum work for audits, in which the coordinator trains on rows again, as a fraction of the rows that the
 * nodes train on. This work counts as extra work (EXTRA_SHARE).
 */
export const AUDIT_SHARE = 0.02;
/**
 * Maximum work for scores and exact effects, as a fraction of the rows that the nodes train on. Scores are
 * computed from gradients, and exact effects from losses.
 */
export const SCORING_SHARE = EXTRA_SHARE - AUDIT_SHARE;
/** Cost of computing the loss of a row (a forward pass), as a fraction of the cost of the row's gradient. */
export const LOSS_COST = 1 / 3;
