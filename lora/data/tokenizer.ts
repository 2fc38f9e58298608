/**
 * Loads Hugging Face tokenizers and encodes exactly as transformers does. Supports byte-pair encoding, over bytes or
 * with byte fallback. A tokenizer.json with any other feature is refused, because wrong ids would go unnoticed until a
 * model has learnt from them.
 *
 * We do not use the tokenizers of @huggingface/tokenizers, because version 0.2.0 gives other ids and texts than
 * transformers. Each file in tokenizing/ names the differences in its area; the measurements are in docs/decisions/071.
 * We use only the library's translation of regular expressions. If a later version passes
 * test/numerics/lora/data/tokenizer-parity.test.ts, the folder tokenizing/ can be deleted, except for deadline.ts.
 */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isSwarmError, isSystemError, type SwarmError } from '../../common/errors.ts';
import { dataError } from './errors.ts';
import { type AddedToken, AddedTokens } from './tokenizing/added-tokens.ts';
import { affixesOf } from './tokenizing/affixes.ts';
import { BytePairEncoder } from './tokenizing/bpe.ts';
import { needsDeadline, withinDeadline } from './tokenizing/deadline.ts';
import { decoderOf } from './tokenizing/decoders.ts';
import { normalizerOf } from './tokenizing/normalizers.ts';
import { preTokenizerOf } from './tokenizing/pre-tokenizers.ts';

export interface EncodeOptions {
  /** Whether to add the special tokens that the tokenizer's config names. @default true */
  special?: boolean;
}

export interface DecodeOptions {
  /** Whether to keep special tokens in the text. @default false */
  special?: boolean;
}

export interface TextTokenizer {
  /** Largest id + 1. The model's embedding may have more rows. */
  readonly vocabSize: number;
  readonly bosId: number | null;
  readonly eosId: number | null;
  /** Ids that are put before (`prefix`) and after (`suffix`) a text if it is encoded with special tokens. */
  readonly prefix: readonly number[];
  readonly suffix: readonly number[];
  encode(text: string, options?: EncodeOptions): number[];
  decode(ids: readonly number[], options?: DecodeOptions): string;
}

/**
 * Loads `tokenizer.json` and `tokenizer_config.json` (optional) from a model folder.
 *
 * The regular expressions of a tokenizer are untrusted. If one of them is not known to be fast, `encode` and `decode`
 * have a deadline per text, and throw TOKENIZER_LIMIT if it passes.
 * @param deadlineMs deadline for a short text, milliseconds. Longer texts get more, see `withinDeadline`.
 * @default 10,000
 * @throws TOKENIZER_INVALID (values: file, reason); TOKENIZER_UNSUPPORTED for parts that cannot be computed exactly;
 * TOKENIZER_LIMIT
 */
export async function loadTokenizer(
  dir: string,
  { deadlineMs }: { deadlineMs?: number } = {},
): Promise<TextTokenizer> {
  const file = join(dir, 'tokenizer.json');
  const definition = await readJson(file, false);
  const config = await readJson(join(dir, 'tokenizer_config.json'), true);
  return tokenizerOf(definition, config, { file, ...(deadlineMs !== undefined && { deadlineMs }) });
}

/**
 * Makes a tokenizer from the contents of `tokenizer.json` and `tokenizer_config.json`.
 * @param options.file path of `tokenizer.json`, for errors
 * @throws the errors of `loadTokenizer`
 */
export function tokenizerOf(
  definition: Json,
  config: Json,
  { file, deadlineMs }: { file: string; deadlineMs?: number },
): TextTokenizer {
  try {
    const { normalizer, pre_tokenizer, decoder } = definition;
    if (!needsDeadline([normalizer, pre_tokenizer, decoder])) return buildTokenizer(definition, config);
    const tokenizer = withinDeadline(() => buildTokenizer(definition, config), 0, deadlineMs);
    return {
      ...tokenizer,
      encode: (text, options) =>
        withinDeadline(() => tokenizer.encode(text, options), text.length, deadlineMs),
      decode: (ids, options) => withinDeadline(() => tokenizer.decode(ids, options), ids.length, deadlineMs),
    };
  } catch (error) {
    if (isSwarmError(error)) throw error;
    throw invalid(file, error instanceof Error ? error.message : String(error), error);
  }
}

type Json = Readonly<Record<string, unknown>>;

function buildTokenizer(definition: Json, config: Json): TextTokenizer {
  const { model } = definition;
  if (typeof model !== 'object' || model === null) throw new Error('the field "model" is missing');
  const encoder = new BytePairEncoder(model as Json);
  const normalize = normalizerOf(definition.normalizer);
  const words = preTokenizerOf(definition.pre_tokenizer);
  const join = decoderOf(definition.decoder);
  const added = addedTokens(definition, config);
  const finder = new AddedTokens(added, normalize);
  const tokens = new Map([...encoder.vocabulary].map(([token, id]) => [id, token]));
  // As in Hugging Face's Rust library, tokens that are searched for in normalized text decode to their normalized form.
  for (const { id, content, normalized } of added) tokens.set(id, normalized ? normalize(content) : content);
  const special = new Set(added.flatMap((token) => (token.special ? [token.id] : [])));
  const idOf = (name: string): number | null => {
    const content = tokenContent(config[name]);
    if (content === null) return null;
    return added.find((token) => token.content === content)?.id ?? encoder.vocabulary.get(content) ?? null;
  };
  const { prefix, suffix } = affixesOf(definition.post_processor);

  return {
    vocabSize: [...tokens.keys()].reduce((most, id) => Math.max(most, id), -1) + 1,
    bosId: idOf('bos_token'),
    eosId: idOf('eos_token'),
    prefix,
    suffix,
    encode(text, { special: around = true } = {}) {
      const ids: number[] = around ? [...prefix] : [];
      // `toWellFormed` replaces lone surrogates, because they cannot be encoded as UTF-8.
      for (const section of finder.sections(text.toWellFormed())) {
        if ('id' in section) ids.push(section.id);
        else for (const word of words(section.text, section.first)) encoder.encode(word, ids);
      }
      if (around) ids.push(...suffix);
      return ids;
    },
    decode(ids, { special: keep = false } = {}) {
      const shown = keep ? ids : ids.filter((id) => !special.has(id));
      return join(shown.flatMap((id) => tokens.get(id) ?? [])).join('');
    },
  };
}

/**
 * Returns the added tokens of tokenizer.json and tokenizer_config.json. If both files define a token, the definition
 * in tokenizer_config.json is used.
 *
 * transformers 5 ignores `add_bos_token`, `add_eos_token` and `clean_up_tokenization_spaces` of the config if there is
 * a tokenizer.json of a kind that we support, so they are ignored here too.
 * @throws Error if a token has no content or no id
 */
export function addedTokens(definition: Json, config: Json): AddedToken[] {
  const tokens = new Map<string, AddedToken>();
  const add = (value: unknown, number: unknown): void => {
    const token = value as Partial<AddedToken> | null;
    const id = Number(number);
    if (typeof token?.content !== 'string' || !Number.isInteger(id) || id < 0)
      throw new Error(`the added token ${JSON.stringify(value)} has no content or no id`);
    const { content, single_word = false, lstrip = false, rstrip = false, special = false } = token;
    const { normalized = !special } = token;
    tokens.set(content, { id, content, single_word, lstrip, rstrip, normalized, special });
  };
  for (const token of (definition.added_tokens ?? []) as Partial<AddedToken>[]) add(token, token.id);
  for (const [id, token] of Object.entries((config.added_tokens_decoder ?? {}) as Json)) add(token, id);
  return [...tokens.values()];
}

/** Reads the text of a special token, which the config gives as a string or as an object with `content`. */
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
    if (optional && isSystemError(error, 'ENOENT')) return {};
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
  return dataError('TOKENIZER_INVALID', `${file}: ${reason}`, { file, reason }, { cause });
}
