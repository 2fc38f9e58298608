/*
 * Bit order of the payload: the first bit is the highest bit of the first byte. Writer and reader work on 32-bit words
 * whose highest byte comes first on the wire. Callers keep the bit position in a local variable, which makes these
 * functions fast.
 */

/**
 * Writes the low `width` (1 to 32) bits of `value`. The other bits of `value` must be 0. The bits of `words` at these
 * positions must be 0 before the call.
 */
export function putBits(words: Uint32Array, position: number, value: number, width: number): void {
  const word = position >>> 5;
  const excess = (position & 31) + width - 32;
  if (excess <= 0) {
    words[word]! |= value << -excess;
  } else {
    words[word]! |= value >>> excess;
    words[word + 1]! |= value << (32 - excess);
  }
}

/**
 * Reads the 32 bits from `position` on, as a signed number. `words` must end with two words after the
 * payload, which `bytesToWords` adds.
 */
export function peekBits(words: Uint32Array, position: number): number {
  const word = position >>> 5;
  const offset = position & 31;
  return (words[word]! << offset) | ((words[word + 1]! >>> 1) >>> (31 - offset));
}

/** Fills `bytes` with the first bytes of `words`. The highest byte of a word comes first. */
export function wordsToBytes(words: Uint32Array, bytes: Uint8Array): void {
  for (let position = 0; position < bytes.length; position++) {
    bytes[position] = words[position >>> 2]! >>> (24 - 8 * (position & 3));
  }
}

/**
 * Returns the bytes as words for `peekBits`, followed by the two words of zeros that `peekBits` may read past
 * the end.
 */
export function bytesToWords(bytes: Uint8Array): Uint32Array {
  const words = new Uint32Array(Math.ceil(bytes.length / 4) + 2);
  for (let position = 0; position < bytes.length; position++) {
    words[position >>> 2]! |= bytes[position]! << (24 - 8 * (position & 3));
  }
  return words;
}
