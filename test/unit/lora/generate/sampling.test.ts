import { describe, expect, it } from 'vitest';
import { SeededRandom } from '../../../../lora/data/seeded-random.ts';
import { logSumExp, Sampler, sample, topTokens } from '../../../../lora/generate/sampling.ts';
import type { Sampling } from '../../../../lora/generate/types.ts';

const logits = Float32Array.from([0.5, 0.25, 0.2, 0.05], Math.log);
const DRAWS = 20_000;

function frequencies(change: Sampling): number[] {
  const random = new SeededRandom(1);
  const counts = [0, 0, 0, 0];
  const options = { temperature: 1, topP: 1, topK: 0, minP: 0, ...change };
  for (let i = 0; i < DRAWS; i++) counts[sample(logits, options, random)]! += 1 / DRAWS;
  return counts;
}

function expectClose(found: readonly number[], expected: readonly number[]): void {
  for (const [i, share] of expected.entries()) expect(found[i]).toBeCloseTo(share, 1);
}

describe('sampling', () => {
  it('samples by the probabilities', () => {
    expectClose(frequencies({}), [0.5, 0.25, 0.2, 0.05]);
    // At half of the temperature, each probability is squared, and all are normalised again.
    const squares = [0.25, 0.0625, 0.04, 0.0025];
    const sum = squares.reduce((a, b) => a + b);
    expectClose(
      frequencies({ temperature: 0.5 }),
      squares.map((square) => square / sum),
    );
  });

  it('stays within the nucleus', () => {
    expect(frequencies({ topP: 0.6 }).slice(2)).toEqual([0, 0]);
    expect(frequencies({ topP: 1e-9 }).slice(1)).toEqual([0, 0, 0]);
  });

  it('keeps the k most likely tokens, and takes the nucleus of those', () => {
    expectClose(frequencies({ topK: 2 }), [2 / 3, 1 / 3, 0, 0]);
    expect(frequencies({ topK: 2 }).slice(2)).toEqual([0, 0]);
    // Of two tokens, the first has 0.67 of the probability.
    expect(frequencies({ topK: 2, topP: 0.6 }).slice(1)).toEqual([0, 0, 0]);
    expectClose(frequencies({ topK: 100 }), [0.5, 0.25, 0.2, 0.05]);
  });

  it('leaves out tokens below a share of the most likely one', () => {
    const found = frequencies({ minP: 0.45 });
    expectClose(found, [2 / 3, 1 / 3, 0, 0]);
    expect(found.slice(2)).toEqual([0, 0]);
  });

  it('keeps the same tokens as sorting all of them', () => {
    const random = new SeededRandom(7);
    const many = Float32Array.from({ length: 3000 }, () => 4 * random.normal());
    const order = [...many.keys()].sort((a, b) => many[b]! - many[a]!);
    for (const topK of [1, 7, 300]) {
      const allowed = new Set(order.slice(0, topK));
      for (let i = 0; i < 300; i++) {
        const id = sample(many, { temperature: 5, topP: 1, topK, minP: 0 }, random);
        expect(allowed).toContain(id);
      }
    }
  });

  it('gives equal tokens for equal seeds only', () => {
    const draw = (seed: number) => {
      const sampler = new Sampler({ temperature: 1, seed }, []);
      return Array.from({ length: 20 }, () => sampler.next(logits));
    };
    expect(draw(4)).toEqual(draw(4));
    expect(draw(4)).not.toEqual(draw(5));
  });

  it('makes repeated tokens less likely, whatever the sign of their logits', () => {
    const next = (values: number[], tokens: number[]) =>
      new Sampler({ repetitionPenalty: 2 }, tokens).next(Float32Array.from(values));
    expect(next([3, 2, 1], [])).toBe(0);
    expect(next([3, 2, 1], [0])).toBe(1);
    expect(next([-1, -1.5, -3], [0])).toBe(1);
    const sampler = new Sampler({ repetitionPenalty: 2 }, []);
    const chosen = [0, 1, 2].map(() => sampler.next(Float32Array.of(3, 2, 1)));
    expect(chosen).toEqual([0, 1, 0]);
  });
});

describe('log-probabilities', () => {
  it('lists the most likely tokens in falling order, equal ones by id', () => {
    const values = Float32Array.of(1, 3, 2, 3, -5);
    const normaliser = logSumExp(values);
    expect(topTokens(values, 3, normaliser).map(({ id }) => id)).toEqual([1, 3, 2]);
    expect(topTokens(values, 0, normaliser)).toEqual([]);
    const all = topTokens(values, 9, normaliser);
    expect(all.reduce((sum, { logprob }) => sum + Math.exp(logprob), 0)).toBeCloseTo(1, 6);
  });

  it('does not overflow', () => {
    expect(logSumExp(Float32Array.of(1e4, 1e4))).toBeCloseTo(1e4 + Math.LN2, 6);
  });
});
