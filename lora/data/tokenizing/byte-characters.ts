/**
 * The visible character for each byte, as in GPT-2. A byte whose Latin-1 character is printable is written as this
 * character; all other bytes are written as the characters from U+0100 on.
 */
const CHARACTERS: readonly string[] = (() => {
  const characters: string[] = [];
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const visible =
      (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
    characters.push(String.fromCharCode(visible ? byte : next++));
  }
  return characters;
})();
const BYTES: ReadonlyMap<string, number> = new Map(CHARACTERS.map((character, byte) => [character, byte]));

const encoder = new TextEncoder();

/** Converts a text to UTF-8 and writes one character per byte. */
export function toByteCharacters(text: string): string {
  let result = '';
  for (const byte of encoder.encode(text)) result += CHARACTERS[byte];
  return result;
}

/**
 * Returns the bytes that the characters of a token stand for. If one of the characters stands for no byte, returns the
 * token's text as UTF-8.
 */
export function fromByteCharacters(token: string): Uint8Array {
  const bytes: number[] = [];
  for (const character of token) {
    const byte = BYTES.get(character);
    if (byte === undefined) return encoder.encode(token);
    bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}
