import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Sample, truncate } from '../../../../../lora/data/packing/truncation.ts';

/** Makes a sample of letters, such as "pppAAAe" (prompt, answer, end). Capital letters are trained. */
function sample(letters: string): Sample {
  return {
    ids: Array.from(letters, (_, i) => i),
    trained: Uint8Array.from(letters, (letter) => (letter === letter.toUpperCase() ? 1 : 0)),
  };
}

function kept(letters: string, limit: number, mode: Parameters<typeof truncate>[2]): string | null {
  const cut = truncate(sample(letters), limit, mode);
  return cut === null ? null : cut.ids.map((i) => letters[i]).join('');
}

describe('truncation', () => {
  it('shortens the untrained end first, then the middle of the prompt, then the answer', () => {
    expect(kept('abcdWXYZefgh', 10, 'shorten')).toBe('abcdWXYZef');
    expect(kept('abcdefghWXYZ', 10, 'shorten')).toBe('abcfghWXYZ');
    expect(kept('abcdefghWXYZij', 10, 'shorten')).toBe('abcfghWXYZ');
    expect(kept('abcdefghLMNOPQRSTUVW', 8, 'shorten')).toBe('ahLMNOPQ');
    expect(kept('LMNOPQRSTUVW', 8, 'shorten')).toBe('LMNOPQRS');
    expect(kept('abcWXdefYZ', 8, 'shorten')).toBe('acWXdefY');
  });

  it('cuts off either end or leaves the sample out, by the mode', () => {
    expect(kept('abcdWXYZ', 5, 'keep-start')).toBe('abcdW');
    expect(kept('abcdWXYZ', 5, 'keep-end')).toBe('dWXYZ');
    expect(kept('abcdWXYZ', 5, 'drop')).toBeNull();
    expect(kept('abcdWXYZ', 8, 'drop')).toBe('abcdWXYZ');
  });

  it('shortens a sample without trained tokens to its beginning', () => {
    const whole = { ids: [0, 1, 2, 3, 4, 5, 6, 7], trained: new Uint8Array(8) };
    expect(truncate(whole, 3, 'shorten')!.ids).toEqual([0, 1, 2]);
  });

  it('shortens to any length, keeping the order and a trained token', () => {
    fc.assert(
      fc.property(
        fc.array(fc.boolean(), { minLength: 3, maxLength: 80 }),
        fc.integer({ min: 3, max: 60 }),
        (mask, limit) => {
          const whole = { ids: mask.map((_, i) => i), trained: Uint8Array.from(mask, Number) };
          const { ids, trained } = truncate(whole, limit, 'shorten')!;
          expect(ids.length).toBe(Math.min(limit, mask.length));
          expect(trained.length).toBe(ids.length);
          expect(ids).toEqual([...ids].sort((a, b) => a - b));
          for (const [i, id] of ids.entries()) {
            expect(trained[i]).toBe(Number(mask[id]));
            // Each trained token keeps its context: the token before it is the one that was before it in the whole
            // sample.
            if (trained[i] && i > 0) expect(ids[i - 1]).toBe(id - 1);
          }
          if (mask.includes(true, 1)) expect(trained.indexOf(1, 1)).toBeGreaterThan(0);
        },
      ),
    );
  });
});
