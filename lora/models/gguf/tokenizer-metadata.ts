import type { SwarmError } from '../../../common/errors.ts';
import type { AddedToken } from '../../data/tokenizing/added-tokens.ts';
import { isObject, type Json } from '../config.ts';
import { modelError } from '../errors.ts';
import { preTokenizerLike } from './pre-tokenizers.ts';
import { spaceMarks, tokenScores } from './sentence-piece.ts';
import type { WrittenMetadata, WrittenValue } from './writer.ts';

/** Token types of llama.cpp, with their numbers in a GGUF file. */
export const TOKEN_TYPES = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

export interface TokenizerToWrite {
  /** The content of tokenizer.json. */
  readonly definition: Json;
  /** The added tokens of tokenizer.json and tokenizer_config.json. */
  readonly added: readonly AddedToken[];
  /** Special tokens by transformers' names, such as `eos_token`. */
  readonly specialTokens: Readonly<Record<string, string>>;
  /** Ids of the tokens that the tokenizer puts before a text. */
  readonly prefix: readonly number[];
  /** Ids of the tokens that the tokenizer puts after a text. */
  readonly suffix: readonly number[];
  /** Ids of the tokens that end a text or a turn. */
  readonly endTokens: readonly number[];
  /** Number of rows of the embedding. A row without a token gets a placeholder such as `[PAD151665]`. */
  readonly rows: number;
  /** Chat templates by name. */
  readonly templates: Readonly<Record<string, string>>;
}

/** A token of the vocabulary or an added token. */
interface Token {
  readonly text: string;
  readonly type: number;
}

/**
 * Describes a tokenizer in the metadata keys of llama.cpp. A tokenizer over bytes becomes the model "gpt2", and one over
 * characters with byte fallback becomes the model "llama".
 *
 * @param onNote called with a sentence for each known case in which llama.cpp gives different tokens
 * @throws SwarmError GGUF_UNSUPPORTED if llama.cpp has no tokenizer like this one
 */
export function tokenizerMetadata(
  tokenizer: TokenizerToWrite,
  onNote: (text: string) => void,
): WrittenMetadata {
  const { definition, added, specialTokens, rows, templates } = tokenizer;
  const model = isObject(definition.model) ? definition.model : {};
  const tokens = listTokens(model, added, rows);
  const beyond = added.filter(({ id }) => id >= rows);
  if (beyond.length > 0)
    onNote(
      `${beyond.length} added tokens, such as ${beyond[0]!.content}, are left out, because the embedding has no rows for them`,
    );
  const metadata = new Map<string, WrittenValue>();
  const set = (key: string, value: WrittenValue) => metadata.set(`tokenizer.${key}`, value);
  const ids = new Map(tokens.map(({ text }, id) => [text, id]));
  const own =
    model.byte_fallback === true
      ? sentencePieceKeys(definition, model, { tokens, added })
      : byteKeys(definition, model);
  for (const [key, value] of own) set(`ggml.${key}`, value);
  set('ggml.tokens', { type: 'string[]', value: tokens.map(({ text }) => text) });
  set('ggml.token_type', { type: 'i32[]', value: tokens.map(({ type }) => type) });
  for (const [name, key] of SPECIAL_KEYS) {
    const id = ids.get(specialTokens[name] ?? '');
    if (id !== undefined) set(`ggml.${key}`, { type: 'u32', value: id });
  }
  // Without an id, llama.cpp would take token 2 or 11 as the end of a text.
  if (!metadata.has('tokenizer.ggml.eos_token_id')) throw unsupported('a tokenizer without an eos_token');
  const eos = metadata.get('tokenizer.ggml.eos_token_id')!.value;
  const turn = tokenizer.endTokens.find((id) => id !== eos && id < rows);
  if (turn !== undefined) set('ggml.eot_token_id', { type: 'u32', value: turn });
  for (const [key, affix, special] of [
    ['add_bos_token', tokenizer.prefix, 'bos_token'],
    ['add_eos_token', tokenizer.suffix, 'eos_token'],
  ] as const) {
    if (affix.length > 1 || (affix.length === 1 && affix[0] !== ids.get(specialTokens[special] ?? '')))
      throw unsupported(`a tokenizer that puts the tokens ${affix.join(', ')} around a text`);
    set(`ggml.${key}`, { type: 'bool', value: affix.length === 1 });
  }
  const { default: template, ...others } = templates;
  if (template !== undefined) set('chat_template', { type: 'string', value: template });
  for (const [name, text] of Object.entries(others))
    set(`chat_template.${name}`, { type: 'string', value: text });
  if (Object.keys(others).length > 0) set('chat_templates', { type: 'string[]', value: Object.keys(others) });
  for (const note of notes(definition, added)) onNote(note);
  return metadata;
}

const SPECIAL_KEYS = [
  ['bos_token', 'bos_token_id'],
  ['eos_token', 'eos_token_id'],
  ['unk_token', 'unknown_token_id'],
  ['pad_token', 'padding_token_id'],
] as const;

/** Lists the tokens by id. */
function listTokens(model: Json, added: readonly AddedToken[], rows: number): Token[] {
  const tokens: (Token | undefined)[] = new Array(rows).fill(undefined);
  const add = (id: unknown, text: string, type: number) => {
    if (typeof id !== 'number' || !(id >= 0 && id < rows))
      throw unsupported(
        `the token ${JSON.stringify(text)} with the id ${id}, because the embedding has ${rows} rows`,
      );
    tokens[id] = { text, type };
  };
  const mergeable = new Set(mergesOf(model).map(([left, right]) => left + right));
  const isByte = (text: string) => model.byte_fallback === true && /^<0x[0-9A-F]{2}>$/.test(text);
  for (const [text, id] of Object.entries(isObject(model.vocab) ? model.vocab : {})) {
    if (text === model.unk_token) add(id, text, TOKEN_TYPES.unknown);
    else add(id, text, isByte(text) ? TOKEN_TYPES.byte : TOKEN_TYPES.normal);
  }
  for (const { id, content, special } of added) {
    if (id >= rows) continue;
    // Some added tokens are runs of spaces, which merges can also make. Such a token stays a normal token, because
    // llama.cpp would print an added token with the space mark "▁" instead of the spaces.
    if (!special && model.byte_fallback === true && content.includes('▁') && mergeable.has(content)) continue;
    if (content === model.unk_token) continue;
    add(id, content, special ? TOKEN_TYPES.control : TOKEN_TYPES.userDefined);
  }
  return tokens.map((token, id) => token ?? { text: `[PAD${id}]`, type: TOKEN_TYPES.unused });
}

/** Returns the metadata keys of a tokenizer over bytes. */
function byteKeys(definition: Json, model: Json): [string, WrittenValue][] {
  const pre = preTokenizerLike(definition.pre_tokenizer, model.ignore_merges === true);
  if (pre === undefined)
    throw unsupported(`the pre_tokenizer ${JSON.stringify(definition.pre_tokenizer).slice(0, 300)}`);
  if (!isNfc(definition.normalizer)) throw unsupported(`the normalizer ${describe(definition.normalizer)}`);
  return [
    ['model', { type: 'string', value: 'gpt2' }],
    ['pre', { type: 'string', value: pre.name }],
    ['merges', { type: 'string[]', value: mergesOf(model).map((pair) => pair.join(' ')) }],
  ];
}

function sentencePieceKeys(
  definition: Json,
  model: Json,
  { tokens, added }: { tokens: readonly Token[]; added: readonly AddedToken[] },
): [string, WrittenValue][] {
  const marks = spaceMarks(definition);
  if (marks === null)
    throw unsupported(
      `the normalizer ${describe(definition.normalizer)} with the pre_tokenizer ${describe(definition.pre_tokenizer)}`,
    );
  const texts = new Set(added.map(({ content }) => content));
  const mergeable = new Set(mergesOf(model).map(([left, right]) => left + right));
  const known = tokens.map(({ text, type }) =>
    type === TOKEN_TYPES.normal || (type === TOKEN_TYPES.userDefined && mergeable.has(text)) ? text : null,
  );
  const scores = tokenScores(known, mergesOf(model), { splits: marks.splits, added: texts });
  if (scores === null) throw unsupported('merges that no SentencePiece model makes');
  return [
    ['model', { type: 'string', value: 'llama' }],
    ['pre', { type: 'string', value: 'default' }],
    ['scores', { type: 'f32[]', value: scores }],
    ['add_space_prefix', { type: 'bool', value: marks.prefix !== 'never' }],
  ];
}

/** Lists the known cases in which llama.cpp and transformers give different tokens. */
function notes(definition: Json, added: readonly AddedToken[]): string[] {
  const found: string[] = [];
  if (isObject(definition.normalizer) && isNfc(definition.normalizer))
    found.push(
      'llama.cpp does not normalise text to NFC, so text with decomposed characters gets different tokens',
    );
  if (spaceMarks(definition)?.prefix === 'first')
    found.push(
      'llama.cpp puts a space before text that follows a special token, and before text that begins with a space; transformers does not',
    );
  const flags = ['lstrip', 'rstrip', 'single_word'] as const;
  const flagged = added.filter((token) => flags.some((flag) => token[flag]));
  if (flagged.length > 0)
    found.push(
      `llama.cpp ignores ${flags.join(', ')}, which ${flagged.length} added tokens have, such as ${flagged[0]!.content}`,
    );
  return found;
}

function isNfc(normalizer: unknown): boolean {
  return (
    normalizer === null || normalizer === undefined || (isObject(normalizer) && normalizer.type === 'NFC')
  );
}

function describe(part: unknown): string {
  return JSON.stringify(part ?? null).slice(0, 300);
}

function mergesOf(model: Json): [string, string][] {
  const merges = (model.merges ?? []) as (string | [string, string])[];
  return merges.map((merge) => (typeof merge === 'string' ? (merge.split(' ') as [string, string]) : merge));
}

function unsupported(what: string): SwarmError {
  return modelError(
    'GGUF_UNSUPPORTED',
    `llama.cpp has no tokenizer with ${what}, so the model cannot be written as GGUF`,
    { what },
    { next: 'export the model as a Hugging Face folder instead' },
  );
}
