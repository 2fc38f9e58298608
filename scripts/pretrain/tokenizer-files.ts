/**
 * Writes a trained BPE as `tokenizer.json` and `tokenizer_config.json`, for @huggingface/tokenizers and transformers.
 *
 * Special tokens: as in Llama 3, encoding puts `<|begin_of_text|>` (id 0) before a text, and nothing after the text.
 * The packer puts `<|end_of_text|>` (id 1) at the end of each document. This token ends generation and is also the
 * padding token.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Bpe } from './bpe.ts';

export const BOS = '<|begin_of_text|>';
export const EOS = '<|end_of_text|>';
/** The special tokens in the order of their ids. */
export const SPECIAL_TOKENS = [BOS, EOS] as const;

export async function writeTokenizer(dir: string, bpe: Bpe, contextLength: number): Promise<void> {
  const json = (value: unknown) => `${JSON.stringify(value)}\n`;
  await writeFile(join(dir, 'tokenizer.json'), json(tokenizerJson(bpe)));
  await writeFile(join(dir, 'tokenizer_config.json'), json(tokenizerConfig(contextLength)));
}

function tokenizerJson(bpe: Bpe): Record<string, unknown> {
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  const bos = { SpecialToken: { id: BOS, type_id: 0 } };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: SPECIAL_TOKENS.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: {
      type: 'TemplateProcessing',
      single: [bos, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [bos, { Sequence: { id: 'A', type_id: 0 } }, bos, { Sequence: { id: 'B', type_id: 1 } }],
      special_tokens: { [BOS]: { id: BOS, ids: [0], tokens: [BOS] } },
    },
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(bpe.vocabulary.map((token, id) => [token, id])),
      merges: bpe.merges,
    },
  };
}

function tokenizerConfig(contextLength: number): Record<string, unknown> {
  return {
    tokenizer_class: 'PreTrainedTokenizerFast',
    bos_token: BOS,
    eos_token: EOS,
    pad_token: EOS,
    clean_up_tokenization_spaces: false,
    model_max_length: contextLength,
  };
}
