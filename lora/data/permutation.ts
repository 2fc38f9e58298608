import { dataError } from './errors.ts';
/**
 * The order of the rows in a round: a keyed permutation of all rows. It can be evaluated at any position and is never
 * stored. Nodes and coordinator compute the same order from the head alone.
 */

import { createHash } from 'node:crypto';
import { encodeCbor } from '../../protocol/cbor.ts';

/** Maximum number of rows in a data set, because the Feistel network has two halves of at most 16 bits. */
export const MAX_ROWS = 2 ** 32;

/** Luby and Rackoff (1988) prove pseudo-randomness for four rounds. We use more, because our round function is weak. */
const FEISTEL_ROUNDS = 8;

export interface PermutationKey {
  /** Digest of the job. */
  job: string;
  round: number;
  /** Digest of the checkpoint that the round starts from. Until the checkpoint exists, the order cannot be predicted. */
  parent: string;
  /** Number of the pass over all rows, counted from 0 in each round. */
  epoch: number;
}

/** Returns the key of a round's permutation, 32 bytes. */
export function permutationKey({ job, round, parent, epoch }: PermutationKey): Uint8Array {
  return createHash('sha256').update(encodeCbor({ job, round, parent, epoch })).digest();
}

/**
 * Returns the permutation of 0 … rows−1 that `key` selects, as a function of the position. The function is a balanced
 * Feistel network. The network permutes the numbers below a power of four that is at least `rows`, so it is applied
 * until the result is below `rows` (cycle walking, Black and Rogaway 2002).
 *
 * @param key 32 bytes
 * @throws ROWS_COUNT; the returned function throws ROWS_POSITION
 */
export function permutation(rows: number, key: Uint8Array): (position: number) => number {
  if (!Number.isInteger(rows) || rows < 1 || rows > MAX_ROWS) {
    throw dataError(
      'ROWS_COUNT',
      `${rows} rows cannot be permuted; the number must be from 1 to ${MAX_ROWS}`,
      { rows },
    );
  }
  const half = Math.max(1, Math.ceil(Math.log2(rows) / 2));
  const mask = 2 ** half - 1;
  const keys = roundKeys(key);
  return (position) => {
    if (!Number.isInteger(position) || position < 0 || position >= rows) {
      throw dataError('ROWS_POSITION', `there is no position ${position} among ${rows} rows`, {
        position,
        rows,
      });
    }
    let value = position;
    do {
      let left = (value >>> half) & mask;
      let right = value & mask;
      for (const roundKey of keys) [left, right] = [right, left ^ (mix(right ^ roundKey) & mask)];
      value = ((left << half) | right) >>> 0;
    } while (value >= rows);
    return value;
  };
}

function roundKeys(key: Uint8Array): number[] {
  const digest = createHash('sha256').update(key).digest();
  return Array.from({ length: FEISTEL_ROUNDS }, (_, i) => digest.readUInt32LE(4 * i));
}

/** The finaliser of MurmurHash3: every output bit depends on every input bit. */
function mix(word: number): number {
  let x = word;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}
