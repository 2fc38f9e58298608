/** Decoders of files from untrusted sources: files of a base, of an adapter, and of a tokenizer. */
import { SwarmError } from '../../common/errors.ts';
import { parsePeftConfig } from '../../lora/adapter/peft-config.ts';
import { BUILT_IN_TEMPLATES } from '../../lora/data/render/built-in.ts';
import { compileTemplate } from '../../lora/data/render/jinja.ts';
import { tokenizerOf } from '../../lora/data/tokenizer.ts';
import { llama } from '../../lora/models/families/llama.ts';
import { NeedMoreBytes } from '../../lora/models/gguf/cursor.ts';
import { parseGguf } from '../../lora/models/gguf/reader.ts';
import type { SeededRandom } from '../../test/utils/virtual/seeded-random.ts';
import type { FuzzDecoder } from './decoder.ts';
import { json } from './json-of.ts';
import { modelDecoders } from './model-decoders.ts';

const CONFIG = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  vocab_size: 300,
  hidden_size: 32,
  intermediate_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  hidden_act: 'silu',
  max_position_embeddings: 64,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  rope_scaling: { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 16 },
  tie_word_embeddings: true,
};

const ADAPTER_CONFIG = {
  peft_type: 'LORA',
  task_type: 'CAUSAL_LM',
  base_model_name_or_path: 'a/model',
  revision: null,
  r: 4,
  lora_alpha: 8,
  lora_dropout: 0.1,
  bias: 'none',
  target_modules: ['q_proj', 'v_proj'],
  exclude_modules: null,
  layers_to_transform: [0, 1],
  layers_pattern: null,
  modules_to_save: ['lm_head'],
  rank_pattern: { 'layers.0.self_attn.q_proj': 8 },
  alpha_pattern: { 'layers.1.self_attn.q_proj': 16 },
  use_rslora: true,
  use_dora: false,
  init_lora_weights: true,
};

export const TOKENIZER = {
  version: '1.0',
  added_tokens: [
    {
      id: 6,
      content: '<s>',
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    },
  ],
  normalizer: {
    type: 'Sequence',
    normalizers: [{ type: 'NFC' }, { type: 'Replace', pattern: { String: 'x' }, content: 'y' }],
  },
  pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
  post_processor: null,
  decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
  model: {
    type: 'BPE',
    unk_token: null,
    byte_fallback: false,
    vocab: { a: 0, b: 1, Ġ: 2, ab: 3, c: 4, abc: 5 },
    merges: [
      ['a', 'b'],
      ['ab', 'c'],
    ],
  },
};

const MODEL = { config: llama.parseConfig(CONFIG), architecture: llama };

/** Returns the header of a GGUF file with one tensor. */
function ggufHeader(random: SeededRandom): Uint8Array {
  const parts: Buffer[] = [];
  const number = (value: number, bytes: 4 | 8): void => {
    const part = Buffer.alloc(bytes);
    part.writeUInt32LE(value);
    parts.push(part);
  };
  const text = (value: string): void => {
    number(value.length, 8);
    parts.push(Buffer.from(value));
  };
  parts.push(Buffer.from('GGUF'));
  number(3, 4);
  number(1, 8);
  number(3, 8);
  text('general.architecture');
  number(8, 4);
  text('llama');
  text('general.alignment');
  number(4, 4);
  number(32, 4);
  text('tokenizer.ggml.tokens');
  number(9, 4);
  number(8, 4);
  number(2, 8);
  text('<s>');
  text('a');
  text('token_embd.weight');
  number(2, 4);
  number(random.integer(1, 8), 8);
  number(2, 8);
  number(0, 4);
  number(0, 8);
  return Buffer.concat(parts);
}

/** Space for the tensors of an example, in bytes. */
const TENSOR_BYTES = 256;

export const fileDecoders: readonly FuzzDecoder[] = [
  {
    name: 'base:gguf',
    example: ggufHeader,
    decode(bytes) {
      try {
        return parseGguf(bytes, bytes.length + TENSOR_BYTES, 'base.gguf');
      } catch (error) {
        // This counts as a refusal. `readGguf` would read more bytes, and refuse the file at a limit.
        if (error instanceof NeedMoreBytes) throw new SwarmError('GGUF_HEADER', 'the header is cut', {});
        throw error;
      }
    },
  },
  {
    ...json('peft:config', ADAPTER_CONFIG, (value) => parsePeftConfig(value, MODEL)),
    // Each config is compared with all modules of the base, which takes this time even for a short config.
    fixedMicroseconds: 5000,
  },
  ...modelDecoders,
  json('tokenizer', TOKENIZER, (value) => {
    const tokenizer = tokenizerOf(value, {}, { file: 'tokenizer.json' });
    return tokenizer.decode(tokenizer.encode('abc <s> cab'));
  }),
  {
    name: 'chat-template',
    example: (random) => Buffer.from(random.pick(Object.values(BUILT_IN_TEMPLATES))),
    decode: (bytes) => compileTemplate(Buffer.from(bytes).toString('utf8'), { variables: {}, now: 0 }),
  },
];
