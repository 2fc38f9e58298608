/**
 * The budget of the work that checks the nodes: scores, exact effects and audits. Its unit is the gradient of one row, so
 * training an interval of 160 rows costs 160.
 */

/** Largest share of extra work in the rows that the nodes train, in a job with the default settings. */
export const EXTRA_SHARE = 0.1;
/** Part of EXTRA_SHARE that audits may take: rows that the coordinator trains again. */
export const AUDIT_SHARE = 0.02;
/** Part of EXTRA_SHARE that scores may take: gradients, and losses for exact effects. */
export const SCORING_SHARE = EXTRA_SHARE - AUDIT_SHARE;
/** Cost of a row's loss, as a share of the cost of its gradient. */
export const LOSS_COST = 1 / 3;
