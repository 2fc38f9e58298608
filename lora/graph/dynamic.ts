/**
 * Sizes that are known only when a graph runs. A shape holds numbers, so a large prime number, which is not the size of
 * anything in a model, stands for each such size. The onnx engine declares the size as a symbolic dimension, and writes
 * −1 for it in a reshape. Graphs with such sizes are used for decoding and have no gradients.
 */
export const DYNAMIC = {
  /**
   * Placeholder for the number of tokens of one run: the number of texts in the batch times the tokens of each text.
   */
  tokens: 1_000_003,
  /** Placeholder for the number of texts in the batch. Each text has its own row of the key-value cache. */
  rows: 1_000_033,
  /** Placeholder for the number of tokens that fit into one row of the key-value cache. */
  capacity: 1_000_037,
  /** Placeholder for the number of tokens of one run whose logits are needed. */
  wanted: 1_000_039,
  /** Placeholder for the sum of the ranks of all adapters that one run applies. */
  rank: 1_000_081,
} as const;

const NAMES = new Map<number, string>(Object.entries(DYNAMIC).map(([name, size]) => [size, name]));

/** Returns the name of a dynamic size; undefined for an ordinary size. */
export function dynamicName(size: number): string | undefined {
  return NAMES.get(size);
}
