import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { predictedTokens } from '../../../../lora/data/row.ts';
import { loadTokenizer, type TextTokenizer } from '../../../../lora/data/tokenizer.ts';
import { packedRows } from '../../../../scripts/pretrain/pack-documents.ts';
import { makeTinyModel, TINY_TEXT } from '../../../utils/models/tiny-model.ts';

let dir: string;
let tokenizer: TextTokenizer;
beforeAll(async () => {
  dir = await makeTinyModel(await mkdtemp(join(tmpdir(), 'tokenizer-')));
  tokenizer = await loadTokenizer(dir);
});
afterAll(() => rm(dir, { recursive: true, force: true }));

describe('the tokenizer', () => {
  it('decodes to the original text, with and without special tokens', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.boolean(), (text, special) => {
        expect(tokenizer.decode(tokenizer.encode(text, { special }))).toBe(text);
      }),
    );
  });

  it('adds its special tokens in the right places', () => {
    expect(tokenizer).toMatchObject({ bosId: 0, eosId: 1, prefix: [0], suffix: [] });
    expect(tokenizer.encode('it')[0]).toBe(0);
    expect(tokenizer.encode('it', { special: false })).toEqual(tokenizer.encode('it').slice(1));
    expect(tokenizer.decode(tokenizer.encode('it'), { special: true })).toBe('<|begin_of_text|>it');
    expect(tokenizer.vocabSize).toBeGreaterThan(258);
  });

  it('starts every packed piece with the beginning-of-text token and ends every document with the end-of-text token', async () => {
    const rows = await packedRows([TINY_TEXT, 'it was'], tokenizer, { sequenceLength: 32 });
    const predicted = rows.reduce((sum, row) => sum + predictedTokens(row), 0);
    const encoded = [TINY_TEXT, 'it was'].map((text) => tokenizer.encode(text).length);
    // In each document, all tokens except the first are predicted, and then the end-of-text token.
    expect(predicted).toBe(encoded.reduce((a, b) => a + b));
    const ends = rows.flatMap(({ labels }) => [...labels]).filter((label) => label === 1);
    expect(ends).toHaveLength(2);
    for (const { ids, segments } of rows) {
      segments.forEach((segment, t) => {
        if (segment !== 0 && segment !== segments[t - 1]) expect(ids[t]).toBe(0);
      });
    }
  });

  it('names the file in the error if it is missing or broken', async () => {
    const missing = join(dir, 'nowhere');
    await expect(loadTokenizer(missing)).rejects.toMatchObject({
      code: 'TOKENIZER_INVALID',
      values: { file: join(missing, 'tokenizer.json') },
    });
    const broken = await makeTinyModel(join(dir, 'broken'));
    const file = join(broken, 'tokenizer.json');
    for (const content of ['{', '[]', '{}']) {
      await writeFile(file, content);
      await expect(loadTokenizer(broken), content).rejects.toMatchObject({ code: 'TOKENIZER_INVALID' });
    }
  });
});
