import type { TextTokenizer } from '../../../lora/data/tokenizer.ts';

/** Returns a tokenizer with one token per character: its UTF-16 code. The token that ends a text is 0. */
export function characterTokenizer(vocabSize: number): TextTokenizer {
  return {
    vocabSize,
    bosId: null,
    eosId: 0,
    prefix: [],
    suffix: [],
    encode: (text) => [...text].map((character) => character.charCodeAt(0)),
    decode: (ids) => String.fromCharCode(...ids),
  };
}
