import type { Origin } from '../../../protocol/api/job-creation.ts';
import type { Rendered } from '../render/rendered.ts';
import { type Hash, HashTable, hashOf } from './hash-table.ts';

/** Maximum number of duplicates that are listed with their places. */
const MAX_NAMED = 5;
/**
 * Maximum number of records per file. The place of a sample is stored as one number, file × 2³² + record. A double
 * holds this number exactly for up to two million files.
 */
const ROWS = 2 ** 32;

export interface Duplicate {
  origin: Origin;
  /** Place of the earlier sample that this one repeats. */
  first: Origin;
}

export interface DuplicateCount {
  /**
   * Number of samples that repeat an earlier sample. This number is an estimate if `sampledOneIn` is above 1.
   */
  count: number;
  /** 1 if every sample was compared. n if only one sample in n was compared, because there were too many to keep. */
  sampledOneIn: number;
  /** The first duplicates found, at most MAX_NAMED. */
  named: Duplicate[];
}

/** Counts samples with equal tokens and equal masks. Memory is bounded (see HashTable). */
export class DuplicateCounter {
  readonly #table = new HashTable();
  readonly #places = new Places();
  /**
   * Estimated number of duplicates. If the table keeps one sample in n, each duplicate that is found adds n to this
   * number.
   */
  #found = 0;
  readonly #named: Duplicate[] = [];

  /**
   * Counts a sample. Returns the place of the earlier sample that is equal to this sample, or null if there
   * is none.
   */
  add(origin: Origin, rendered: Rendered): Origin | null {
    const hash = sampleHash(rendered);
    if (!this.#table.samples(hash)) return null;
    const place = this.#table.get(hash);
    if (place === undefined) {
      this.#table.set(hash, this.#places.number(origin));
      return null;
    }
    const first = this.#places.origin(place);
    this.#found += this.#table.scale;
    if (this.#named.length < MAX_NAMED) this.#named.push({ origin, first });
    return first;
  }

  /**
   * Returns 0 if the table has no sample equal to this one. Otherwise returns the number of samples that the
   * equal sample stands for. This number is 1, or more if the table keeps only some of the samples.
   */
  weight(rendered: Rendered): number {
    return this.#table.get(sampleHash(rendered)) === undefined ? 0 : this.#table.scale;
  }

  result(): DuplicateCount {
    return { count: this.#found, sampledOneIn: this.#table.scale, named: this.#named };
  }
}

function sampleHash({ ids, trained }: Rendered): Hash {
  return hashOf(
    (function* () {
      for (let i = 0; i < ids.length; i++) yield 2 * ids[i]! + trained[i]!;
    })(),
  );
}

/** Converts origins to numbers and back. */
class Places {
  readonly #files: string[] = [];

  number({ file, row }: Origin): number {
    let index = this.#files.lastIndexOf(file);
    if (index < 0) index = this.#files.push(file) - 1;
    return index * ROWS + row;
  }

  origin(place: number): Origin {
    return { file: this.#files[Math.floor(place / ROWS)]!, row: place % ROWS };
  }
}
