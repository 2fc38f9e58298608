import { messageOf } from '../../common/errors.ts';
import { type ClaimedUpdate, decodeEvidence, verifyEvidence } from '../../protocol/evidence.ts';
import { STALE_ROUNDS, UPDATE_BYTES } from '../../protocol/limits.ts';
import type { Checkpoint, Head } from '../../protocol/messages.ts';
import { counts } from '../../protocol/receipts.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { Findings } from '../findings.ts';
import type { JobFacts } from '../job-facts.ts';
import { readBlob } from '../read-blob.ts';
import type { CheckpointRecord } from '../record.ts';

/** Reasons why the proofs of a contributor are not checked. */
const NO_UPDATE = 'the source has no signed update of a contributor';
const NO_RECEIPT = 'the source has no receipt of a contributor';

/** A contributor as a checkpoint names it. */
export type Contributor = Checkpoint['contributors'][number];

/** Facts about rounds before a checkpoint that the checks of its contributors need. */
export interface EarlierRounds {
  /** Returns the digest of the newest checkpoint before a round; null if it is unknown. */
  parentOf(round: number): string | null;
  /** Returns the assignments of a round, from the head that opened it; null if this head is unknown. */
  assignmentsOf(round: number): Head['assignments'] | null;
}

/**
 * Checks that each contributor of a checkpoint has signed its update and got a receipt for it.
 * @returns the update of each contributor, in the same order; null for an update without a verified signature
 */
export async function checkContributors(
  facts: JobFacts,
  record: CheckpointRecord,
  checkpoint: Checkpoint,
  earlier: EarlierRounds,
  findings: Findings,
): Promise<(ClaimedUpdate | null)[]> {
  const reasons = facts.record.partial?.reasons;
  checkOrder(checkpoint, findings);
  const updates: (ClaimedUpdate | null)[] = [];
  for (const [i, contributor] of checkpoint.contributors.entries()) {
    const { evidence = null, receipt = null } = record.proofs[i] ?? {};
    const update = evidence === null ? null : await checkUpdate(facts, evidence, contributor, findings);
    updates.push(update);
    if (evidence === null) findings.skip('contributors', reasons?.updates ?? NO_UPDATE);
    else if (update) compare({ checkpoint, contributor, update, earlier }, findings);
    if (receipt !== null) checkReceipt(facts, receipt, contributor, findings);
    else findings.skip('receipts', reasons?.receipts ?? NO_RECEIPT);
  }
  return updates;
}

/**
 * Checks that the contributors are in the order in which a merge adds their updates, that no update occurs twice, and
 * that no update is too old for the merge.
 */
function checkOrder({ contributors, round }: Checkpoint, findings: Findings): void {
  findings.done('contributors');
  for (const [i, { peer, round: made }] of contributors.entries()) {
    const before = contributors[i - 1];
    if (before && (peer < before.peer || (peer === before.peer && made <= before.round))) {
      const text = `the contributor ${peer}, round ${made}, is out of order, or occurs twice`;
      findings.problem('VERIFY_CONTRIBUTOR', text, { peer, made });
    }
    if (made > round || made < round - STALE_ROUNDS) {
      const text = `the update of ${peer} is of round ${made}, which this merge may not contain`;
      findings.problem('VERIFY_CONTRIBUTOR', text, { peer, made });
    }
  }
}

/** Returns the update of a contributor, or null if its signature cannot be verified. */
async function checkUpdate(
  facts: JobFacts,
  evidence: Uint8Array,
  { peer, update: digest }: Contributor,
  findings: Findings,
): Promise<ClaimedUpdate | null> {
  try {
    const claimed = decodeEvidence(evidence);
    const wanted = { digest, size: null, maxBytes: UPDATE_BYTES };
    const payload = claimed.inlined ? await readBlob(facts, wanted, findings) : new Uint8Array();
    if (payload === null) {
      findings.skip('contributors', 'a signature covers a payload that the source does not have');
      return null;
    }
    verifyEvidence(evidence, payload);
    const { author, update } = claimed;
    if (author === peer && update.job === facts.job && update.payload.digest === digest) return claimed;
    const text = `instead of the merged update of ${peer}, the source has another signed update`;
    findings.problem('VERIFY_SOURCE', text, { peer, update: digest });
    return null;
  } catch (error) {
    facts.signal.throwIfAborted();
    const text = `the signed update of ${peer} is not valid: ${messageOf(error)}`;
    findings.problem('VERIFY_SOURCE', text, { peer, update: digest });
    return null;
  }
}

/** Compares a verified update with what the checkpoint says about it. */
function compare(
  {
    checkpoint,
    contributor,
    update: claimed,
    earlier,
  }: { checkpoint: Checkpoint; contributor: Contributor; update: ClaimedUpdate; earlier: EarlierRounds },
  findings: Findings,
): void {
  const { peer, round, tokens, update: digest } = contributor;
  const { update } = claimed;
  const parent = earlier.parentOf(round);
  const assignments = earlier.assignmentsOf(round);
  const assigned = assignments?.find((one) => one.peer === peer);
  // It is not an error if a head lacks the node, because the head may be older than the assignment of a node that
  // came late.
  const isAssigned =
    assigned === undefined || (assigned.start === update.start && assigned.end === update.end);
  if (parent === null)
    findings.skip('contributors', 'the parent of an update is outside of the checked rounds');
  const agree: [string, boolean][] = [
    ['term', update.term <= checkpoint.term],
    ['round', update.round === round],
    ['parent', parent === null || update.parent === parent],
    ['tokens', update.tokens === tokens],
    ['rows', isAssigned],
  ];
  const wrong = agree.filter(([, same]) => !same).map(([field]) => field);
  if (wrong.length === 0) return;
  const text = `the signed update of ${peer} differs from the checkpoint in: ${wrong.join(', ')}`;
  // This problem proves nothing against the coordinator. The checkpoint names only the payload, and the
  // author may have signed several updates with this payload.
  findings.problem('VERIFY_SOURCE', text, { peer, update: digest, fields: wrong });
}

/** Checks that the coordinator has signed a receipt for an update, and that the receipt lets the update count. */
function checkReceipt(
  { coordinator, job }: JobFacts,
  receipt: Uint8Array,
  { peer, round, update }: Contributor,
  findings: Findings,
): void {
  findings.done('receipts');
  const values = { peer, update };
  try {
    const { author, message } = verifyMessage('receipt', receipt);
    const isSame =
      author === coordinator && message.job === job && message.peer === peer && message.update === update;
    if (!isSame) {
      const text = `the receipt of ${peer} is for another update, or not signed by the coordinator`;
      findings.problem('VERIFY_SOURCE', text, values);
    } else if (message.round !== round) {
      const text = `the receipt of ${peer} is for round ${message.round}, not for round ${round}`;
      findings.problem('VERIFY_RECEIPT', text, values);
    } else if (!counts(message.code)) {
      const text = `the update of ${peer} was merged, but its receipt says "${message.code}"`;
      findings.problem('VERIFY_RECEIPT', text, { ...values, code: message.code });
    }
  } catch (error) {
    findings.problem('VERIFY_SOURCE', `the receipt of ${peer} is not valid: ${messageOf(error)}`, values);
  }
}
