import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { decoders } from '../../../scripts/fuzz/decoders.ts';
import { fuzzDecoder, tryInput } from '../../../scripts/fuzz/fuzz-decoder.ts';

const corpus: Record<string, string[]> = JSON.parse(
  readFileSync(join(import.meta.dirname, '../../fixtures/fuzz-corpus.json'), 'utf8'),
);

describe.each(decoders.map((decoder) => [decoder.name, decoder] as const))('%s', (name, decoder) => {
  test('treats the inputs of the corpus as it must', () => {
    const inputs = corpus[name] ?? [];
    expect(inputs, 'add inputs with npm run fuzz -- --decoder NAME --corpus FILE').not.toEqual([]);
    const problems = inputs.map((input) => tryInput(decoder, Buffer.from(input, 'hex')).problem);
    expect(problems.filter((problem) => problem !== null)).toEqual([]);
  });

  test('refuses 200 changed encodings with a code, quickly and without much memory', () => {
    expect(fuzzDecoder(decoder, { seed: 2, inputs: 200 }).findings).toEqual([]);
  });
});
