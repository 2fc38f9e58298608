import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { loadTokenizer } from '../../../lora/data/tokenizer.ts';
import { byteAlphabet, countWords, trainBpe } from '../../../scripts/pretrain/bpe.ts';
import { SPECIAL_TOKENS, writeTokenizer } from '../../../scripts/pretrain/tokenizer-files.ts';
import { TINY_TEXT } from '../../utils/models/tiny-model.ts';
import { withCode } from '../../utils/source/codes.ts';

/** The definition without incremental counts: counts all pairs again for every merge. */
function slowMerges(words: ReadonlyMap<string, number>, count: number): [string, string][] {
  const alphabet = byteAlphabet();
  const ordered = [...alphabet].sort((a, b) => a.codePointAt(0)! - b.codePointAt(0)!);
  const ids = new Map(ordered.map((token, id) => [token, id]));
  let corpus = [...words].map(([word, weight]) => ({
    symbols: Array.from(new TextEncoder().encode(word), (byte) => alphabet[byte]!),
    weight,
  }));
  const merges: [string, string][] = [];
  while (merges.length < count) {
    const pairs = new Map<string, { left: string; right: string; count: number }>();
    for (const { symbols, weight } of corpus) {
      symbols.slice(1).forEach((right, i) => {
        const left = symbols[i]!;
        const pair = pairs.get(`${left} ${right}`) ?? { left, right, count: 0 };
        pair.count += weight;
        pairs.set(`${left} ${right}`, pair);
      });
    }
    const order = (a: string, b: string) => ids.get(a)! - ids.get(b)!;
    const best = [...pairs.values()].sort(
      (a, b) => b.count - a.count || order(a.left, b.left) || order(a.right, b.right),
    )[0];
    if (best === undefined || best.count < 2) break;
    const merged = best.left + best.right;
    ids.set(merged, ids.size);
    merges.push([best.left, best.right]);
    corpus = corpus.map(({ symbols, weight }) => {
      const after: string[] = [];
      for (let i = 0; i < symbols.length; i++) {
        const both = symbols[i] === best.left && symbols[i + 1] === best.right;
        after.push(both ? merged : symbols[i]!);
        if (both) i++;
      }
      return { symbols: after, weight };
    });
  }
  return merges;
}

describe('byte-pair encoding', () => {
  it('learns the same merges as counting all pairs again for each merge', () => {
    const texts = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', 'c', ' ', 'é'), maxLength: 60 }), {
      maxLength: 6,
    });
    fc.assert(
      fc.property(texts, (all) => {
        const words = countWords(all);
        expect(trainBpe(words, 290, []).merges).toEqual(slowMerges(words, 34));
      }),
      { numRuns: 200 },
    );
    const words = countWords([TINY_TEXT]);
    expect(trainBpe(words, 300, []).merges).toEqual(slowMerges(words, 44));
  });

  it('numbers special tokens first, then bytes, then merges', () => {
    const { vocabulary, merges } = trainBpe(countWords([TINY_TEXT]), 280, SPECIAL_TOKENS);
    expect(new Set(vocabulary).size).toBe(280);
    expect(vocabulary.slice(0, 2)).toEqual(SPECIAL_TOKENS);
    expect(vocabulary.slice(258)).toEqual(merges.map(([left, right]) => left + right));
  });

  it('refuses a vocabulary without room for the bytes', () => {
    expect(() => trainBpe(new Map(), 257, SPECIAL_TOKENS)).toThrow(withCode('BPE_SIZE'));
  });

  it('encodes with its merges after it is written and read back', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'bpe-'));
    try {
      await writeTokenizer(dir, trainBpe(countWords(['lower lower lower low low']), 280, SPECIAL_TOKENS), 64);
      const tokenizer = await loadTokenizer(dir);
      expect(tokenizer.encode('lower', { special: false }).length).toBeLessThan(3);
      expect(tokenizer.encode('rewol', { special: false }).length).toBe(5);
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  });
});
