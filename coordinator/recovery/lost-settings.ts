import type { Checkpoint, Head } from '../../protocol/messages.ts';
import { continuesSettings, type VerifiedSettings } from '../../protocol/settings-chain.ts';

/** A change of a job's settings that the coordinator has signed. */
export interface SignedChange extends VerifiedSettings {
  readonly envelope: Uint8Array;
}

/**
 * Returns the changes of a job's settings that fit a recovered head and its checkpoints, oldest first.
 *
 * - If the head names no change, no change applies to its round.
 * - If a change that applies to the head is missing, the newest checkpoint for which no change is missing takes the
 *   place of the head. Without such a checkpoint, the changes of the database stay as they are.
 * - Changes of the database that apply only after the round of the head stay.
 * @param checkpoints the recovered checkpoints, oldest first
 * @param changes `own`: the changes in the database, oldest first. `kept`: the changes that nodes sent
 */
export function settingsOfHead(
  { head, checkpoints }: { head: Head; checkpoints: readonly Checkpoint[] },
  { own, kept }: { own: readonly SignedChange[]; kept: readonly SignedChange[] },
): readonly SignedChange[] {
  const known = new Map([...own, ...kept].map((change) => [change.digest, change]));
  const named = [head.settings?.record, ...checkpoints.map(({ settings }) => settings).reverse()];
  const applied = head.settings === undefined ? [] : firstComplete(named, known);
  if (applied === null) return own;
  const isContinued = applied.every(({ digest }, i) => own[i]?.digest === digest);
  const later = isContinued ? own.slice(applied.length) : [];
  // The changes are in ascending order of `fromRound`, so it is enough to check the first change.
  const isLater = (later[0]?.record.fromRound ?? 0) > head.round;
  return isLater ? [...applied, ...later] : applied;
}

/** Returns the chain up to the first of the named changes whose chain is complete; null if none is complete. */
function firstComplete(
  named: readonly (string | undefined)[],
  known: ReadonlyMap<string, SignedChange>,
): SignedChange[] | null {
  for (const digest of named) {
    const chain = digest === undefined ? null : chainTo(digest, known);
    if (chain !== null) return chain;
  }
  return null;
}

/**
 * Returns the changes of a job's settings, from the first change to the change with this digest. Returns null if a
 * change is missing or does not continue the change before it.
 */
function chainTo(digest: string, known: ReadonlyMap<string, SignedChange>): SignedChange[] | null {
  const chain: SignedChange[] = [];
  for (let at: string | null = digest; at !== null; at = chain[0]!.record.previous) {
    const change = known.get(at);
    if (change === undefined) return null;
    chain.unshift(change);
  }
  const isWhole = chain.every(({ record }, i) => continuesSettings(chain[i - 1] ?? null, record));
  return isWhole ? chain : null;
}
