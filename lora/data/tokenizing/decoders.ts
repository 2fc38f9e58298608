/**
 * Turns tokens into text, as Hugging Face's Rust library `tokenizers` does.
 *
 * In contrast, @huggingface/tokenizers 0.2.0 removes spaces before punctuation by default, loses a leading U+FEFF in byte
 * fallback, and decodes invalid UTF-8 to a different number of U+FFFD characters.
 */
import { fromByteCharacters } from './byte-characters.ts';
import { type Part, partOf, partsOf, textOf, unsupported } from './part.ts';
import { patternOf } from './patterns.ts';

/** Converts tokens to the parts of a text. The caller joins them. */
export type Decode = (tokens: readonly string[]) => string[];

/**
 * Reads the `decoder` of tokenizer.json. Without a decoder, tokens are joined with spaces.
 * @throws SwarmError TOKENIZER_UNSUPPORTED
 */
export function decoderOf(value: unknown): Decode {
  const part = partOf(value, 'decoder');
  return part === null ? (tokens) => [tokens.join(' ')] : build(part);
}

function build(part: Part): Decode {
  switch (part.type) {
    case 'Sequence': {
      const steps = partsOf(part.decoders, 'decoders').map(build);
      return (tokens) => steps.reduce<string[]>((parts, step) => step(parts), [...tokens]);
    }
    case 'ByteLevel':
      return (tokens) => [utf8.decode(Buffer.concat(tokens.map(fromByteCharacters)))];
    case 'ByteFallback':
      return byteFallback;
    case 'Fuse':
      return (tokens) => [tokens.join('')];
    case 'Metaspace':
      return metaspace(part);
    case 'Replace': {
      const pattern = patternOf(part.pattern, 'decoder.pattern');
      const content = textOf(part.content, 'decoder.content');
      return (tokens) => tokens.map((token) => token.replace(pattern, () => content));
    }
    case 'Strip':
      return strip(part);
    default:
      throw unsupported('decoder', part.type);
  }
}

// Invalid UTF-8 becomes U+FFFD, one for each maximal subpart, as Unicode recommends.
const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });
const strict = new TextDecoder('utf-8', { ignoreBOM: true, fatal: true });

/** Decodes consecutive byte tokens as UTF-8. If they are not UTF-8, each byte becomes one U+FFFD. */
function byteFallback(tokens: readonly string[]): string[] {
  const parts: string[] = [];
  let bytes: number[] = [];
  const flush = (): void => {
    if (bytes.length === 0) return;
    try {
      parts.push(strict.decode(Uint8Array.from(bytes)));
    } catch {
      parts.push('\ufffd'.repeat(bytes.length));
    }
    bytes = [];
  };
  for (const token of tokens) {
    const hex = /^<0x([0-9A-Fa-f]{2})>$/.exec(token)?.[1];
    if (hex !== undefined) bytes.push(Number.parseInt(hex, 16));
    else {
      flush();
      parts.push(token);
    }
  }
  flush();
  return parts;
}

function metaspace(part: Part): Decode {
  const replacement = textOf(part.replacement ?? '▁', 'decoder.replacement');
  const prefixed = part.prepend_scheme !== 'never' && part.add_prefix_space !== false;
  // Hugging Face's Rust library removes every metaspace mark from the first token, even if encoding added only one of
  // them.
  return (tokens) => tokens.map((token, i) => token.replaceAll(replacement, i === 0 && prefixed ? '' : ' '));
}

function strip(part: Part): Decode {
  const content = textOf(part.content, 'decoder.content');
  const [start, stop] = [Number(part.start ?? 0), Number(part.stop ?? 0)];
  return (tokens) =>
    tokens.map((token) => {
      let [from, to] = [0, token.length];
      while (from < start && token[from] === content) from++;
      while (token.length - to < stop && to > from && token[to - 1] === content) to--;
      return token.slice(from, to);
    });
}
