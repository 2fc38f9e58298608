import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DuplicateCounter } from '../../../../../lora/data/inspect/duplicates.ts';
import { HashTable, hashOf } from '../../../../../lora/data/inspect/hash-table.ts';
import { LengthCounter } from '../../../../../lora/data/inspect/lengths.ts';
import { nodeShare } from '../../../../../lora/data/inspect/node-share.ts';
import { OVERLAP_TOKENS, OverlapCounter } from '../../../../../lora/data/inspect/overlap.ts';
import type { Rendered } from '../../../../../lora/data/render/rendered.ts';

const sample = (ids: number[], trained = ids.map(() => 1)): Rendered => ({
  ids,
  trained: Uint8Array.from(trained),
  merged: 0,
});
const at = (row: number) => ({ file: row % 2 === 0 ? 'a' : 'b', row });
const numbers = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i);

describe('the hash table', () => {
  it('maps hashes to values', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.integer({ min: 0, max: 300 }), fc.nat())), (entries) => {
        const table = new HashTable();
        for (const [key, value] of entries) table.set(hashOf([key]), value);
        for (const [key, value] of new Map(entries)) expect(table.get(hashOf([key]))).toBe(value);
        expect(table.get(hashOf([999]))).toBeUndefined();
        expect(table.size).toBe(new Map(entries).size);
      }),
    );
  });

  it('has bounded memory: when it is full, it keeps a known share of the hashes', () => {
    const table = new HashTable({ maxSlots: 2 ** 12 });
    for (let i = 0; i < 50_000; i++) table.set(hashOf([i]), i);
    expect(table.size).toBeLessThanOrEqual(2 ** 12);
    expect(table.scale).toBeGreaterThan(1);
    expect((table.size * table.scale) / 50_000).toBeCloseTo(1, 1);
    for (let i = 0; i < 1000; i++) {
      const hash = hashOf([i]);
      expect(table.get(hash)).toBe(table.samples(hash) ? i : undefined);
    }
  });

  it('distinguishes sequences that differ in order, length or one number', () => {
    const sequences = [[1, 2], [2, 1], [1], [1, 2, 0], [], [0], [0, 0], [1, 3]];
    const hashes = sequences.map((values) => hashOf(values)).map(({ high, low }) => `${high} ${low}`);
    expect(new Set(hashes).size).toBe(sequences.length);
  });
});

describe('duplicates', () => {
  it('have equal tokens and masks, and are listed with the first such sample', () => {
    const duplicates = new DuplicateCounter();
    expect(duplicates.add(at(1), sample([1, 2, 3]))).toBeNull();
    expect(duplicates.add(at(2), sample([1, 2, 3], [0, 1, 1]))).toBeNull();
    expect(duplicates.add(at(3), sample([1, 2, 4]))).toBeNull();
    expect(duplicates.add(at(4), sample([1, 2, 3]))).toEqual(at(1));
    expect(duplicates.add(at(5), sample([1, 2, 3]))).toEqual(at(1));
    expect(duplicates.result()).toEqual({
      count: 2,
      sampledOneIn: 1,
      named: [
        { origin: at(4), first: at(1) },
        { origin: at(5), first: at(1) },
      ],
    });
  });
});

describe('overlap', () => {
  it('finds held-out samples that occur in the training data, by trained tokens only', () => {
    const known = sample(numbers(0, 40));
    const half = sample([...numbers(100, 25), ...numbers(500, 12)]);
    const fresh = sample(numbers(200, 40));
    const prompt = sample(numbers(300, 40), [...numbers(0, 38).map(() => 0), 1, 1]);
    const held = [known, half, fresh, prompt];
    const training = new DuplicateCounter();
    const overlap = new OverlapCounter({ training });
    const train = (row: number, one: Rendered): void => {
      training.add(at(row), one);
      overlap.addTraining(one);
    };
    for (const one of held) overlap.addHeldOut(one);
    train(1, known);
    train(2, sample([7, ...numbers(100, 25)]));
    train(3, sample(numbers(300, 40)));
    held.forEach((one, i) => void overlap.judge(at(i), one));
    expect(overlap.result()).toEqual({
      heldOut: 4,
      equal: 1,
      touched: 2,
      known: 2,
      withSequences: 3,
      sampledOneIn: 1,
      named: [
        { origin: at(0), share: 1 },
        // A sample of 37 trained tokens has 25 sequences of OVERLAP_TOKENS tokens. 25 known tokens contain 13 of them.
        { origin: at(1), share: (25 - OVERLAP_TOKENS + 1) / (37 - OVERLAP_TOKENS + 1) },
      ],
    });
  });
});

describe('lengths', () => {
  it('are summarised exactly', () => {
    const length = fc.oneof(fc.integer({ min: 0, max: 3000 }), fc.integer({ min: 131_070, max: 900_000 }));
    fc.assert(
      fc.property(fc.array(length, { minLength: 1, maxLength: 300 }), (all) => {
        const lengths = new LengthCounter();
        for (const length of all) lengths.add(length);
        const sorted = [...all].sort((a, b) => a - b);
        const { histogram, ...summary } = lengths.summary()!;
        expect(summary).toEqual({
          samples: all.length,
          mean: expect.closeTo(all.reduce((a, b) => a + b) / all.length, 6),
          shortest: sorted[0],
          median: sorted[Math.ceil(all.length / 2) - 1],
          p95: sorted[Math.ceil(0.95 * all.length) - 1],
          longest: sorted.at(-1),
        });
        expect(histogram.reduce((sum, bin) => sum + bin.samples, 0)).toBe(all.length);
        for (const { from, to, samples } of histogram) {
          expect(all.filter((length) => length >= from && length <= to)).toHaveLength(samples);
        }
        expect(histogram.length).toBeLessThanOrEqual(14);
      }),
    );
    expect(new LengthCounter().summary()).toBeNull();
  });
});

describe('the share of a node', () => {
  it('counts rows, trained tokens, shards and bytes', () => {
    const data = { rows: 1001, trainedTokens: 50_000 };
    expect(nodeShare(data, { nodes: 4, sequenceLength: 512, vocabSize: 4096 })).toEqual({
      nodes: 4,
      rows: 251,
      trainedTokens: 12_500,
      shards: 3,
      bytes: 1001 * 512 * 6,
    });
  });
});
