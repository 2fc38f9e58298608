import { describe, expect, it } from 'vitest';
import { SeededRandom } from '../../../../lora/data/seeded-random.ts';

describe('the seeded generator', () => {
  it('depends on every part of the seed', () => {
    const draw = (...seed: number[]) => new SeededRandom(...seed).uniform();
    expect(draw(1, 2)).toBe(draw(1, 2));
    expect(new Set([draw(1), draw(2), draw(1, 2), draw(2, 1), draw(1, 2, 0)]).size).toBe(5);
  });

  it('draws uniform and normal numbers', () => {
    const random = new SeededRandom(5);
    const count = 20_000;
    const mean = (of: () => number) => Array.from({ length: count }, of).reduce((a, b) => a + b) / count;
    expect(mean(() => random.uniform())).toBeCloseTo(0.5, 1);
    expect(mean(() => random.integer(10))).toBeCloseTo(4.5, 0);
    expect(mean(() => random.normal())).toBeCloseTo(0, 1);
    expect(mean(() => random.normal() ** 2)).toBeCloseTo(1, 1);
  });

  it('shuffles without losing an item', () => {
    const items = Array.from({ length: 50 }, (_, i) => i);
    const shuffled = new SeededRandom(1).shuffle([...items]);
    expect(shuffled).not.toEqual(items);
    expect(shuffled.sort((a, b) => a - b)).toEqual(items);
  });
});
