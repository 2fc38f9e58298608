import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SpecialTokenCounter } from '../../../../../lora/data/inspect/special-tokens.ts';
import { tokenTexts } from '../../../../../lora/data/inspect/token-texts.ts';
import { loadTokenizer, type TextTokenizer } from '../../../../../lora/data/tokenizer.ts';
import { makeTinyModel } from '../../../../utils/models/tiny-model.ts';

let dir: string;
let tokenizer: TextTokenizer;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'inspect-'));
  tokenizer = await loadTokenizer(await makeTinyModel(join(dir, 'model')));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

describe('the texts of tokens', () => {
  it('together give the whole text, even if tokens split characters', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        const ids = tokenizer.encode(text);
        const shown = tokenTexts(ids, new Uint8Array(ids.length), tokenizer);
        expect(shown.map((token) => token.id)).toEqual(ids);
        expect(shown.map((token) => token.text).join('')).toBe(tokenizer.decode(ids, { special: true }));
      }),
      { examples: [['👩‍👩‍👧 你好'], ['\ufffd\ufffd a']] },
    );
  });
});

describe('special tokens', () => {
  const count = (ids: number[], trained = ids.map(() => 1)) => {
    const special = new SpecialTokenCounter({ tokenizer, specialTokens: {} });
    special.add({ ids, trained: Uint8Array.from(trained), merged: 0 });
    return special.result();
  };
  it('are checked at the start and at the end', () => {
    const word = tokenizer.encode('it', { special: false });
    const [bos, eos] = [tokenizer.bosId!, tokenizer.eosId!];
    expect(count([bos, ...word, eos])).toMatchObject({
      doubleBos: 0,
      withoutBos: 0,
      endWithEos: 1,
      withoutEnd: 0,
    });
    expect(count([bos, bos, ...word])).toMatchObject({ doubleBos: 1, withoutEnd: 1 });
    expect(count([...word, eos, ...tokenizer.encode('\n', { special: false })])).toMatchObject({
      withoutBos: 1,
      endWithEos: 1,
    });
    expect(count([bos, ...word, eos], [0, ...word.map(() => 1), 0])).toMatchObject({ withoutEnd: 1 });
    expect(count([bos, eos], [0, 0])).toMatchObject({ withoutEnd: 0, endWithEos: 0 });
  });
});
