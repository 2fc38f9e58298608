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
  /** Whether the figures of all named merges were known. */
  readonly isComplete: boolean;
}

/**
 * Checks that the earlier shares of each author are its newest shares, as the figures of their merges have them.
 * @param known figures of earlier merges, by round; some may be missing
 */
export function checkHistory(figures: Figures, known: ReadonlyMap<number, Figures>): HistoryResult {
  const mismatches: HistoryMismatch[] = [];
  const shares = sharesByPeer(known, figures.round);
  let isComplete = true;
  for (const { peer, earlier = [] } of figures.updates) {
    for (const { merge, round, share: used, failed } of earlier) {
      const before = known.get(merge);
      if (before === undefined) {
        isComplete = false;
        continue;
      }
      const update = before.updates.find((one) => one.peer === peer && one.round === round);
      const published = update?.share ?? null;
      const { audit = null } = update ?? {};
      // The audit may have failed after these figures were read, so only a passed audit contradicts.
      const isSame = published === used && merge < figures.round && !(failed && audit?.passed === true);
      if (!isSame) mismatches.push({ peer, merge, round, used: failed ? 0 : used, published });
    }
    const isFull = earlier.length === BELIEF_UPDATES;
    const oldest = isFull ? earlier.at(-1)!.merge : -1;
    for (const { merge, round, share } of shares.get(peer) ?? []) {
      const isUsed = earlier.some((one) => one.merge === merge && one.round === round);
      if (merge > oldest && !isUsed) mismatches.push({ peer, merge, round, used: null, published: share });
    }
  }
  return { mismatches, isComplete };
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
