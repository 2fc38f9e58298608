import { formatPercent } from '../../../common/text.ts';
import { HashTable, hashOf } from '../inspect/hash-table.ts';
import { IGNORED_LABEL, type Row } from '../row.ts';
import { piecesOf } from './piece-set.ts';

/** Share of the held-out data above which a warning is given. A smaller share hardly changes the held-out loss. */
const MAX_SHARE = 0.01;

/**
 * Measures how much of the held-out data the training data contains too. Compares the pieces in packed rows by their
 * tokens. A sample that is packed differently in both parts is not found; `inspect` finds it.
 */
export class HeldOutOverlap {
  readonly #heldOut: () => Iterable<Row>;
  /** Maps each held-out piece to 1 if a training row contains it, and otherwise to 0. */
  readonly #pieces = new HashTable();

  /** @param heldOut returns the packed held-out rows; called twice */
  constructor(heldOut: () => Iterable<Row>) {
    this.#heldOut = heldOut;
    for (const row of heldOut()) for (const { ids } of piecesOf(row)) this.#pieces.set(hashOf(ids), 0);
  }

  addTraining(row: Row): void {
    for (const { ids } of piecesOf(row)) {
      const hash = hashOf(ids);
      if (this.#pieces.get(hash) === 0) this.#pieces.set(hash, 1);
    }
  }

  /** Returns the share of the supervised held-out tokens whose pieces are in the training rows, from 0 to 1. */
  share(): number {
    let all = 0;
    let found = 0;
    for (const row of this.#heldOut()) {
      for (const { ids, labels } of piecesOf(row)) {
        const known = this.#pieces.get(hashOf(ids));
        if (known === undefined) continue;
        for (const label of labels) if (label !== IGNORED_LABEL) all++;
        if (known === 1) for (const label of labels) if (label !== IGNORED_LABEL) found++;
      }
    }
    return all === 0 ? 0 : found / all;
  }
}

/** Returns a warning with advice if the training data contains a part of the held-out data; else null. */
export function overlapWarning(share: number): { message: string; next: string } | null {
  if (share <= MAX_SHARE) return null;
  return {
    message: `the training data contains ${formatPercent(share)} of the held-out data, so the held-out loss will be too low`,
    next:
      'remove these samples from the training data or from the held-out data; ' +
      '"lora-swarm data inspect" names samples that occur twice or, with --held-out FILE, in both',
  };
}
