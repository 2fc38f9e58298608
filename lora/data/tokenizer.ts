/** A Hugging Face tokenizer folder, loaded and reduced to what training and evaluation need. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Tokenizer } from '@huggingface/tokenizers';
import { SwarmError } from '../../protocol/errors.ts';

export interface EncodeOptions {
  /** Add the special tokens that the tokenizer's config adds. @default true */
  special?: boolean;
}

export interface DecodeOptions {
  /** Keep special tokens in the text. @default false */
  special?: boolean;
}

export interface TextTokenizer {
  /** Largest id + 1. The model's embedding may have more rows than this. */
  readonly vocabSize: number;
  readonly bosId: number | null;
  readonly eosId: number | null;
  /** Ids that encoding with special tokens puts before and after a text. */
  readonly prefix: readonly number[];
  readonly suffix: readonly number[];
  encode(text: string, options?: EncodeOptions): number[];
  decode(ids: readonly number[], options?: DecodeOptions): string;
}

/**
 * Loads `tokenizer.json` and `tokenizer_config.json` (the latter may be absent) of a model folder.
 * @throws TOKENIZER_INVALID with the file and the reason.
 */
export async function loadTokenizer(dir: string): Promise<TextTokenizer> {
  const file = join(dir, 'tokenizer.json');
  const definition = await readJson(file, false);
  const config = await readJson(join(dir, 'tokenizer_config.json'), true);
  let tokenizer: Tokenizer;
  try {
    tokenizer = new Tokenizer(definition, config);
  } catch (error) {
    throw invalid(file, error instanceof Error ? error.message : String(error), error);
  }
  const encode = (text: string, { special = true }: EncodeOptions = {}): number[] =>
    tokenizer.encode(text, { add_special_tokens: special }).ids;
  const { prefix, suffix } = affixes(encode);
  const idOf = (name: string): number | null => {
    const content = tokenContent(config[name]);
    return content === null ? null : (tokenizer.token_to_id(content) ?? null);
  };
  return {
    vocabSize: Math.max(...tokenizer.get_vocab().values()) + 1,
    bosId: idOf('bos_token'),
    eosId: idOf('eos_token'),
    prefix,
    suffix,
    encode,
    decode: (ids, { special = false } = {}) =>
      // The library refuses an empty list.
      ids.length === 0 ? '' : tokenizer.decode([...ids], { skip_special_tokens: !special }),
  };
}

/** What special tokens stand around a text, found by encoding one with and without them. */
function affixes(encode: (text: string, options: EncodeOptions) => number[]) {
  const probe = 'a';
  const bare = encode(probe, { special: false });
  const full = encode(probe, { special: true });
  const extra = full.length - bare.length;
  for (let start = 0; start <= extra; start++) {
    if (bare.every((id, i) => full[start + i] === id)) {
      return { prefix: full.slice(0, start), suffix: full.slice(start + bare.length) };
    }
  }
  return { prefix: [], suffix: [] };
}

/** Special tokens are written as a string or as an object with `content`. */
function tokenContent(value: unknown): string | null {
  if (typeof value === 'string') return value;
  if (
    typeof value === 'object' &&
    value !== null &&
    'content' in value &&
    typeof value.content === 'string'
  ) {
    return value.content;
  }
  return null;
}

async function readJson(file: string, optional: boolean): Promise<Record<string, unknown>> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if (optional && error instanceof Error && 'code' in error && error.code === 'ENOENT') return {};
    throw invalid(file, 'it cannot be read', error);
  }
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      return value as Record<string, unknown>;
    }
  } catch (error) {
    throw invalid(file, 'it is not JSON', error);
  }
  throw invalid(file, 'it is not a JSON object');
}

function invalid(file: string, reason: string, cause?: unknown): SwarmError {
  return new SwarmError(
    'TOKENIZER_INVALID',
    `${file}: ${reason}; a model folder needs the tokenizer.json of its model`,
    { file, reason },
    { cause },
  );
}
