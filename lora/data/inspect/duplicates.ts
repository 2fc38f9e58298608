/** Samples that occur more than once, and held-out samples that are in the training data. */
import type { Origin } from '../examples.ts';
import type { Rendered } from '../render/rendered.ts';
import { type Hash, HashTable, hashOf } from './hash-table.ts';

/** Pairs that are named. */
const NAMED = 5;
/** Rows of a file: a place is one number, file · 2³² + row, exact in a double up to two million files. */
const ROWS = 2 ** 32;

export interface Duplicate {
  origin: Origin;
  first: Origin;
}

export interface DuplicateCount {
  /** Samples that repeat an earlier one. */
  count: number;
  /** There were too many different ones to keep: `count` is an estimate from one in so many. */
  sampledOneIn: number;
  named: Duplicate[];
}

/** Equal tokens with equal masks. Memory: see HashTable. */
export class Duplicates {
  readonly #table = new HashTable();
  readonly #places = new Places();
  /** By the scale at which they were found. */
  #found = 0;
  readonly #named: Duplicate[] = [];

  /** Counts a sample; where it was before, if it was. */
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
    if (this.#named.length < NAMED) this.#named.push({ origin, first });
    return first;
  }

  /** How many samples were added that are equal to one: 0, or 1, or where not all are kept one for so many. */
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

/** Origins as numbers and back. */
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
