import type { SeededRandom } from '../../test/utils/virtual/seeded-random.ts';

/** A function that reads bytes from a stranger. */
export interface FuzzDecoder {
  readonly name: string;
  /** Returns a valid encoding. */
  example(random: SeededRandom): Uint8Array;
  /** Decodes an input. May throw only a SwarmError. */
  decode(bytes: Uint8Array): unknown;
  /** Whether the encoding is CBOR, so that single values of it can be replaced. @default false */
  readonly cbor?: boolean;
  /** CPU time that every input may take in addition to the time for its size, in microseconds. @default 0 */
  readonly fixedMicroseconds?: number;
}
