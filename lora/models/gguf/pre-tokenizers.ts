import type { Json } from '../config.ts';
import { isObject } from '../config.ts';

/**
 * A rule for splitting text into words, which both a GGUF file and tokenizer.json can express. A GGUF file
 * contains only the name of the rule (`tokenizer.ggml.pre`), which llama.cpp implements. A wrong name would
 * silently give different tokens, so the converters refuse rules and names that they do not know.
 */
export interface PreTokenizer {
  /** Name of the pre-tokenizer in the GGUF files that this program writes. */
  readonly name: string;
  /** Other names that a GGUF file may have for the pre-tokenizer. llama.cpp splits text in the same way under each name. */
  readonly aliases: readonly string[];
  /**
   * Whether a word that is in the vocabulary becomes one token without any merges (`ignore_merges` of tokenizer.json).
   */
  readonly ignoreMerges: boolean;
  /** Whether llama.cpp puts the BOS token before a text if the file has no key `add_bos_token`. */
  readonly addBos: boolean;
  /** Whether transformers normalises text to NFC first. llama.cpp does not. */
  readonly nfc: boolean;
  /** The steps of tokenizer.json's `pre_tokenizer`. */
  readonly steps: readonly Json[];
}

/** Splits text into the words of GPT-2, then maps each byte of a word to a character. */
const GPT2_WORDS = { type: 'ByteLevel', add_prefix_space: false, use_regex: true };
/** Pre-tokenizer step that maps each byte of a word to a visible character, as in GPT-2. */
const BYTES = { type: 'ByteLevel', add_prefix_space: false, use_regex: false };

function split(regex: string): Json {
  return { type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false };
}

/**
 * Returns the regular expression that splits text into words for Llama 3 and Qwen 2. The expressions of the
 * two models differ only in the part `numbers`.
 */
function wordsWithNumbers(numbers: string): string {
  return String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|${numbers}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`;
}

const LLAMA3_STEPS = [split(wordsWithNumbers(String.raw`\p{N}{1,3}`)), BYTES];

/**
 * The pre-tokenizers that this program knows. llama.cpp's names and regular expressions are in its
 * src/llama-vocab.cpp.
 */
export const PRE_TOKENIZERS: readonly PreTokenizer[] = [
  {
    name: 'gpt-2',
    aliases: ['phi-2', 'exaone4', 'mpt', 'olmo', 'jais', 'trillion', 'granite-docling'],
    ignoreMerges: false,
    addBos: false,
    nfc: false,
    steps: [GPT2_WORDS],
  },
  {
    name: 'smollm',
    aliases: ['starcoder', 'refact', 'command-r', 'codeshell', 'exaone', 'minerva-7b'],
    ignoreMerges: false,
    addBos: false,
    nfc: false,
    steps: [{ type: 'Digits', individual_digits: true }, GPT2_WORDS],
  },
  {
    name: 'llama-bpe',
    aliases: ['llama3', 'llama-v3', 'falcon3', 'pixtral'],
    ignoreMerges: true,
    addBos: true,
    nfc: false,
    steps: LLAMA3_STEPS,
  },
  {
    name: 'dbrx',
    aliases: ['smaug-bpe'],
    ignoreMerges: false,
    addBos: false,
    nfc: false,
    steps: LLAMA3_STEPS,
  },
  {
    name: 'qwen2',
    aliases: ['deepseek-r1-qwen', 'megrez'],
    ignoreMerges: false,
    addBos: false,
    nfc: true,
    steps: [split(wordsWithNumbers(String.raw`\p{N}`)), BYTES],
  },
];

/** Returns the pre-tokenizer with this name in llama.cpp; undefined if this program does not know it. */
export function preTokenizerNamed(name: string): PreTokenizer | undefined {
  return PRE_TOKENIZERS.find((one) => one.name === name || one.aliases.includes(name));
}

/**
 * Returns the pre-tokenizer that splits text like this part of a tokenizer.json; undefined if there is none.
 * @param part the field `pre_tokenizer`
 */
export function preTokenizerLike(part: unknown, ignoreMerges: boolean): PreTokenizer | undefined {
  const steps = JSON.stringify(stepsOf(part));
  return PRE_TOKENIZERS.find(
    (one) => one.ignoreMerges === ignoreMerges && JSON.stringify(one.steps.map(essence)) === steps,
  );
}

/** Returns the steps of a pre-tokenizer in a uniform form, in which equal steps have equal JSON texts. */
function stepsOf(part: unknown): unknown[] {
  if (!isObject(part)) return [];
  return part.type === 'Sequence' && Array.isArray(part.pretokenizers)
    ? part.pretokenizers.flatMap(stepsOf)
    : [essence(part)];
}

function essence(step: Json): unknown {
  switch (step.type) {
    case 'ByteLevel':
      return ['ByteLevel', step.add_prefix_space ?? true, step.use_regex ?? true];
    case 'Digits':
      return ['Digits', step.individual_digits === true];
    case 'Split':
      return ['Split', step.pattern, step.behavior, step.invert === true];
    default:
      return step;
  }
}
