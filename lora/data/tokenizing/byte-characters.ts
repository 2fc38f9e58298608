/**
 * GPT-2's way to write bytes as visible characters: printable Latin-1 stands for itself, the others in their order for
 * the characters from U+0100.
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

/** UTF-8 of a text, a character per byte. */
export function toByteCharacters(text: string): string {
  let result = '';
  for (const byte of encoder.encode(text)) result += CHARACTERS[byte];
  return result;
}

/** The bytes that a token stands for; the token's own UTF-8 where it holds any other character. */
export function fromByteCharacters(token: string): Uint8Array {
  const bytes: number[] = [];
  for (const character of token) {
    const byte = BYTES.get(character);
    if (byte === undefined) return encoder.encode(token);
    bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}
