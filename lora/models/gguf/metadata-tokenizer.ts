import type { Json } from '../config.ts';
import type { Metadata } from './metadata.ts';
import { preTokenizerNamed } from './pre-tokenizers.ts';
import { mergesOfScores, SPACE_MARK } from './sentence-piece.ts';
import { TOKEN_TYPES } from './tokenizer-metadata.ts';

/** Maximum size of a chat template in bytes. The longest published templates have about 20 kB. */
const MAX_TEMPLATE_BYTES = 2 ** 20;

/** The tokenizer of a model in the form of Hugging Face's files. */
export interface TokenizerFiles {
  /** The content of tokenizer.json. */
  readonly definition: Json;
  /** The content of tokenizer_config.json. */
  readonly config: Json;
  /** Ids of the tokens that end a text or a turn; the id of `eos_token` comes first. */
  readonly endTokens: readonly number[];
  /** Chat templates by name. The model's usual template has the name `default`. */
  readonly templates: Readonly<Record<string, string>>;
}

/** A token of a GGUF file. */
interface Token {
  readonly text: string;
  readonly type: number;
}

/**
 * Makes a tokenizer from the metadata of a GGUF file.
 * @throws SwarmError GGUF_METADATA if a key is missing or has a wrong type
 * @throws SwarmError GGUF_UNSUPPORTED if this program cannot encode text exactly as this tokenizer does
 */
export function tokenizerOf(metadata: Metadata): TokenizerFiles {
  const tokens = readTokens(metadata);
  const model = metadata.text('tokenizer.ggml.model');
  if (model !== 'gpt2' && model !== 'llama')
    throw metadata.unsupported(`a tokenizer of the model ${JSON.stringify(model)}`);
  const { parts, addBos } =
    model === 'gpt2' ? byteParts(metadata, tokens) : sentencePieceParts(metadata, tokens);
  const special = specialTokens(metadata, tokens);
  const before = metadata.flag('tokenizer.ggml.add_bos_token', addBos) ? ['bos_token'] : [];
  const after = metadata.flag('tokenizer.ggml.add_eos_token', false) ? ['eos_token'] : [];
  const missing = [...before, ...after].find((name) => special[name] === undefined);
  if (missing !== undefined)
    throw metadata.invalid(`tokenizer.ggml.${missing}_id`, 'the id of a token, because texts get this token');
  const definition = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: tokens.flatMap(addedToken),
    ...parts,
    post_processor: before.length + after.length === 0 ? null : affixes({ before, after }, special, tokens),
  };
  const config = {
    tokenizer_class: 'PreTrainedTokenizerFast',
    clean_up_tokenization_spaces: false,
    ...special,
  };
  const ends = ['eos', 'eot', 'eom'].map((name) => metadata.number(`tokenizer.ggml.${name}_token_id`, null));
  const endTokens = [...new Set(ends)].filter((id) => id !== null && tokens[id] !== undefined) as number[];
  return { definition, config, endTokens, templates: readTemplates(metadata) };
}

/**
 * Reads the tokens by id. Leaves out placeholders at the end of the list, which exist only for unused embedding rows.
 */
function readTokens(metadata: Metadata): Token[] {
  const texts = metadata.texts('tokenizer.ggml.tokens');
  if (texts === null) throw metadata.invalid('tokenizer.ggml.tokens', 'a list of texts');
  const types = metadata.numbers('tokenizer.ggml.token_type') ?? texts.map(() => TOKEN_TYPES.normal);
  if (types.length !== texts.length)
    throw metadata.invalid('tokenizer.ggml.token_type', `${texts.length} numbers, one for each token`);
  if (new Set(texts).size !== texts.length) {
    const seen = new Set<string>();
    const twice = texts.find((text) => seen.size === seen.add(text).size)!;
    throw metadata.unsupported(`the token ${JSON.stringify(twice)} twice`);
  }
  const tokens = texts.map((text, id) => ({ text, type: types[id]! }));
  const isFiller = ({ text, type }: Token, id: number) =>
    type === TOKEN_TYPES.unused && text === `[PAD${id}]`;
  while (tokens.length > 0 && isFiller(tokens.at(-1)!, tokens.length - 1)) tokens.pop();
  return tokens;
}

/** Makes the parts of a BPE tokenizer over bytes, such as the tokenizers of GPT-2 and Llama 3. */
function byteParts(metadata: Metadata, tokens: readonly Token[]) {
  const pre = preTokenizerNamed(metadata.text('tokenizer.ggml.pre', ''));
  if (pre === undefined) {
    const name = metadata.text('tokenizer.ggml.pre', null);
    throw metadata.unsupported(
      name === null ? 'no tokenizer.ggml.pre' : `the pre-tokenizer ${JSON.stringify(name)}`,
    );
  }
  const merges = metadata.texts('tokenizer.ggml.merges');
  if (merges === null) throw metadata.invalid('tokenizer.ggml.merges', 'a list of texts');
  const ids = new Map(tokens.map(({ text }, id) => [text, id]));
  const pairs = merges.map((merge) => {
    const space = merge.indexOf(' ', 1);
    const pair = [merge.slice(0, space), merge.slice(space + 1)];
    if (space === -1 || ![...pair, pair.join('')].every((text) => ids.has(text)))
      throw metadata.unsupported(`the merge ${JSON.stringify(merge.slice(0, 100))} of unknown tokens`);
    return pair;
  });
  const bytes = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  const parts = {
    normalizer: pre.nfc ? { type: 'NFC' } : null,
    pre_tokenizer: pre.steps.length === 1 ? pre.steps[0] : { type: 'Sequence', pretokenizers: pre.steps },
    decoder: bytes,
    model: { ...BPE, ignore_merges: pre.ignoreMerges, vocab: Object.fromEntries(ids), merges: pairs },
  };
  return { parts, addBos: pre.addBos };
}

/**
 * Makes the parts of a BPE tokenizer over characters, with byte fallback, such as the tokenizers of Llama 2 and Gemma.
 */
function sentencePieceParts(metadata: Metadata, tokens: readonly Token[]) {
  const scores = metadata.numbers('tokenizer.ggml.scores');
  if (scores === null || scores.length < tokens.length)
    throw metadata.invalid('tokenizer.ggml.scores', `${tokens.length} numbers, one for each token`);
  if (metadata.flag('tokenizer.ggml.remove_extra_whitespaces', false))
    throw metadata.unsupported('a tokenizer that removes repeated spaces');
  const mergeable = tokens.map(({ text, type }, id) =>
    type === TOKEN_TYPES.normal || type === TOKEN_TYPES.userDefined ? { text, score: scores[id]! } : null,
  );
  const prefix = metadata.flag('tokenizer.ggml.add_space_prefix', true);
  const unknown = tokens.find(({ type }) => type === TOKEN_TYPES.unknown)?.text ?? null;
  const replace = { type: 'Replace', pattern: { String: ' ' }, content: SPACE_MARK };
  const prepend = { type: 'Prepend', prepend: SPACE_MARK };
  const strip = { type: 'Strip', content: ' ', start: 1, stop: 0 };
  const decoders = [
    { type: 'Replace', pattern: { String: SPACE_MARK }, content: ' ' },
    { type: 'ByteFallback' },
    { type: 'Fuse' },
  ];
  const parts = {
    normalizer: prefix ? { type: 'Sequence', normalizers: [prepend, replace] } : replace,
    pre_tokenizer: null,
    decoder: { type: 'Sequence', decoders: prefix ? [...decoders, strip] : decoders },
    model: {
      ...BPE,
      unk_token: unknown,
      fuse_unk: true,
      byte_fallback: true,
      vocab: Object.fromEntries(tokens.map(({ text }, id) => [text, id])),
      merges: mergesOfScores(mergeable, (what) => metadata.unsupported(what)),
    },
  };
  return { parts, addBos: true };
}

/** The fields of a byte-pair encoding that are the same in all tokenizers. */
const BPE = {
  type: 'BPE',
  dropout: null,
  unk_token: null as string | null,
  continuing_subword_prefix: null,
  end_of_word_suffix: null,
  fuse_unk: false,
  byte_fallback: false,
  ignore_merges: false,
};

/** Returns whether a token is searched for in a text before the text is split into words. */
function isAdded({ type }: Token): boolean {
  return type === TOKEN_TYPES.control || type === TOKEN_TYPES.userDefined || type === TOKEN_TYPES.unknown;
}

function addedToken(token: Token, id: number): Json[] {
  if (!isAdded(token)) return [];
  const special = token.type !== TOKEN_TYPES.userDefined;
  const plain = { single_word: false, lstrip: false, rstrip: false, normalized: false };
  return [{ id, content: token.text, ...plain, special }];
}

function specialTokens(metadata: Metadata, tokens: readonly Token[]): Record<string, string> {
  const found: Record<string, string> = {};
  for (const [name, key] of [
    ['bos_token', 'bos'],
    ['eos_token', 'eos'],
    ['unk_token', 'unknown'],
    ['pad_token', 'padding'],
  ] as const) {
    const id = metadata.number(`tokenizer.ggml.${key}_token_id`, null);
    const token = id === null ? undefined : tokens[id];
    if (token !== undefined) found[name] = token.text;
  }
  return found;
}

/** Makes the post-processor that puts special tokens before and after a text. */
function affixes(
  { before, after }: { before: readonly string[]; after: readonly string[] },
  special: Readonly<Record<string, string>>,
  tokens: readonly Token[],
): Json {
  const item = (name: string) => ({ SpecialToken: { id: special[name], type_id: 0 } });
  const sequence = (id: string) => ({ Sequence: { id, type_id: 0 } });
  const around = (id: string) => [...before.map(item), sequence(id), ...after.map(item)];
  const described = [...before, ...after].map((name) => {
    const text = special[name]!;
    const id = tokens.findIndex((token) => token.text === text);
    return [text, { id: text, ids: [id], tokens: [text] }] as const;
  });
  return {
    type: 'TemplateProcessing',
    single: around('A'),
    pair: [...around('A'), ...around('B')],
    special_tokens: Object.fromEntries(described),
  };
}

function readTemplates(metadata: Metadata): Record<string, string> {
  const templates: Record<string, string> = {};
  const names = metadata.texts('tokenizer.chat_templates') ?? [];
  for (const name of ['default', ...names]) {
    const key = name === 'default' ? 'tokenizer.chat_template' : `tokenizer.chat_template.${name}`;
    const text = metadata.text(key, null);
    if (text === null) continue;
    if (Buffer.byteLength(text) > MAX_TEMPLATE_BYTES)
      throw metadata.invalid(key, `at most ${MAX_TEMPLATE_BYTES} bytes`);
    templates[name] = text;
  }
  return templates;
}
