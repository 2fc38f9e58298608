/** Compares the earlier shares in figures with the figures of those earlier merges. */
import type { Figures } from '../../protocol/messages.ts';
import { BELIEF_UPDATES } from './belief.ts';

/** An earlier share that contradicts the figures of its merge. */
export interface HistoryMismatch {
  readonly peer: string;
  /** The round of the earlier merge, and the round for which the update was trained. */
  readonly merge: number;
  readonly round: number;
  /** The share in the newer figures, and the share in the figures of the merge. Null if these figures have no share. */
  readonly used: number | null;
  readonly published: number | null;
}

export interface HistoryResult {
  readonly mismatches: readonly HistoryMismatch[];
  /** Authors whose earlier shares are repeated or not sorted from new to old. These shares are not compared. */
  readonly unsorted: readonly string[];
  /** Authors with an earlier share that counts as 0, although the known figures of the merge have no audit of the update. */
  readonly withoutAudit: readonly string[];
  /**
   * Whether all earlier shares could be compared: the figures of all named merges are known, and no share from a known
   * merge of an earlier term is missing.
   */
  readonly isComplete: boolean;
}

/**
 * Checks that the earlier shares of each author are its newest shares, as published in the figures of their merges.
 * @param known figures of earlier merges, by round; some may be missing
 */
export function checkHistory(figures: Figures, known: ReadonlyMap<number, Figures>): HistoryResult {
  const mismatches: HistoryMismatch[] = [];
  const unsorted: string[] = [];
  const withoutAudit = new Set<string>();
  const shares = sharesByPeer(known, figures.round);
  let isComplete = true;
  for (const { peer, earlier = [] } of figures.updates) {
    if (!isSorted(earlier)) {
      unsorted.push(peer);
      continue;
    }
    for (const { merge, round, share: used, failed } of earlier) {
      const before = known.get(merge);
      if (before === undefined) {
        isComplete = false;
        continue;
      }
      const update = before.updates.find((one) => one.peer === peer && one.round === round);
      const published = update?.share ?? null;
      const { audit = null } = update ?? {};
      // The audit may have failed after these figures were read, so only a passed audit is a contradiction.
      const isSame = published === used && merge < figures.round && !(failed && audit?.passed === true);
      if (!isSame) mismatches.push({ peer, merge, round, used: failed ? 0 : used, published });
      else if (failed && audit === null) withoutAudit.add(peer);
    }
    const isFull = earlier.length === BELIEF_UPDATES;
    const oldest = isFull ? earlier.at(-1)!.merge : -1;
    for (const { merge, round, share } of shares.get(peer) ?? []) {
      const isUsed = earlier.some((one) => one.merge === merge && one.round === round);
      if (merge <= oldest || isUsed) continue;
      // A coordinator that was restored from a backup has lost the shares of some merges of earlier terms.
      if (known.get(merge)!.term < figures.term) isComplete = false;
      else mismatches.push({ peer, merge, round, used: null, published: share });
    }
  }
  return { mismatches, unsorted, withoutAudit: [...withoutAudit], isComplete };
}

/** Returns whether each share is of an older merge, or of an older round of the same merge, than the share before it. */
function isSorted(earlier: readonly { readonly merge: number; readonly round: number }[]): boolean {
  return earlier.every(({ merge, round }, i) => {
    const before = earlier[i - 1];
    return before === undefined || merge < before.merge || (merge === before.merge && round < before.round);
  });
}

interface PeerShare {
  readonly merge: number;
  readonly round: number;
  readonly share: number;
}

function sharesByPeer(known: ReadonlyMap<number, Figures>, before: number): Map<string, PeerShare[]> {
  const shares = new Map<string, PeerShare[]>();
  for (const [merge, { updates }] of known) {
    if (merge >= before) continue;
    for (const { peer, round, share } of updates) {
      if (share === null) continue;
      const list = shares.get(peer) ?? [];
      list.push({ merge, round, share });
      shares.set(peer, list);
    }
  }
  return shares;
}
