import { settingsAt } from '../../protocol/settings-chain.ts';
import type { Findings } from '../findings.ts';
import type { JobFacts, SignedCheckpoint } from '../job-facts.ts';
import { largestAdapter } from './adapter-size.ts';

/**
 * Checks base, parent, round and term of a checkpoint.
 * @param before.parent checkpoint before it in the source; null if there is none
 * @param before.gap reason why the source may lack checkpoints between the two; null if it should have all
 */
export function checkChain(
  { manifest }: JobFacts,
  { digest, checkpoint }: SignedCheckpoint,
  { parent, gap }: { parent: SignedCheckpoint | null; gap: string | null },
  findings: Findings,
): void {
  findings.done('chain');
  const off = (message: string, values: Record<string, unknown>): void =>
    findings.problem('VERIFY_CHAIN', message, { checkpoint: digest, ...values });
  const { round, term } = checkpoint;
  if (checkpoint.base !== manifest.base.digest)
    off(`the checkpoint names the base ${checkpoint.base}`, { base: checkpoint.base });
  const { size } = checkpoint.adapter;
  const largest = largestAdapter(manifest);
  if (size > largest) off(`the adapter has ${size} bytes; the manifest allows ${largest}`, { size, largest });
  const lacks = (message: string, values: Record<string, unknown>): void =>
    findings.problem('VERIFY_SOURCE', message, { checkpoint: digest, ...values });
  if (parent === null) {
    const { initial } = manifest.adapter;
    if (round !== 0 && gap !== null) {
      findings.skip('chain', gap);
      return;
    }
    if (round !== 0) {
      lacks('the first checkpoint of the job is missing', {});
      return;
    }
    if (checkpoint.parent !== null) off(`the first checkpoint has the parent ${checkpoint.parent}`, {});
    if (checkpoint.adapter.digest !== initial.digest || checkpoint.contributors.length > 0) {
      const { adapter } = checkpoint;
      off(`the first adapter is ${adapter.digest}, not ${initial.digest}`, { adapter: adapter.digest });
    }
    return;
  }
  const before = parent.checkpoint;
  if (checkpoint.parent !== parent.digest) {
    const text = `the parent is ${checkpoint.parent ?? 'missing'}, not ${parent.digest}`;
    const values = { parent: checkpoint.parent, expected: parent.digest };
    // A wrong parent does not always prove a fault of the coordinator. If there may be a round between the
    // two checkpoints, the source may have left out, moved or repeated a checkpoint. In a later term, the
    // coordinator may have made the round again, after it was restored from a backup.
    const isAdjacent = round === before.round || round === before.round + 1;
    if (isAdjacent && term === before.term && digest !== parent.digest) off(text, values);
    else if (gap !== null && round > before.round) findings.skip('chain', gap);
    else lacks(text, values);
    return;
  }
  if (round <= before.round) off(`the round is not above ${before.round}`, { before: before.round });
  if (term < before.term) off(`the term fell from ${before.term} to ${term}`, { term, before: before.term });
}

/** Checks that a checkpoint names the change of the settings that applies to its round. */
export function checkSettings(
  { settings, record }: JobFacts,
  { checkpoint }: SignedCheckpoint,
  findings: Findings,
): void {
  if (settings === null) {
    findings.skip('settings', record.partial?.reasons.settings ?? 'the chain of changes is broken');
    return;
  }
  findings.done('settings');
  const expected = settingsAt(settings, checkpoint.round)?.digest ?? null;
  const named = checkpoint.settings ?? null;
  if (named === expected) return;
  const text = `the checkpoint names the settings ${named ?? 'of the manifest'}, not ${expected ?? 'those of the manifest'}`;
  const isKnown = named === null || settings.some((change) => change.digest === named);
  findings.problem(isKnown ? 'VERIFY_SETTINGS' : 'VERIFY_SOURCE', text, { settings: named, expected });
}
