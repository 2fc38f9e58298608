import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OnlinePacker } from '../../../../../lora/data/packing/online-packer.ts';
import { MAX_PIECES } from '../../../../../lora/data/packing/pieces.ts';
import { WindowPacker } from '../../../../../lora/data/packing/window-packer.ts';
import type { Row } from '../../../../../lora/data/row.ts';

const piece = (length: number, first = 1) => {
  const ids = Array.from({ length }, (_, i) => first + i);
  return { ids, labels: ids.map((id) => id + 1) };
};

function pack(lengths: readonly number[], sequenceLength: number, windowTokens?: number): Row[] {
  const packer = new WindowPacker({ sequenceLength, windowTokens });
  const rows = lengths.flatMap((length, i) => [...packer.addPiece(piece(length, 1000 * (i + 1)))]);
  return [...rows, ...packer.finish()];
}

/** Lengths of the pieces in each row. */
const shape = (rows: readonly Row[]) =>
  rows.map(({ segments }) => {
    const lengths: number[] = [];
    for (const segment of segments) if (segment > 0) lengths[segment - 1] = (lengths[segment - 1] ?? 0) + 1;
    return lengths;
  });

describe('the window packer', () => {
  it('places the longest piece first, each into the fullest row that has room', () => {
    expect(shape(pack([2, 5, 3, 8, 6, 1, 4], 10))).toEqual([
      [8, 1],
      [6, 4],
      [5, 3, 2],
    ]);
  });

  it('loses and repeats no prediction, for any window', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 24 }), { maxLength: 60 }),
        fc.integer({ min: 24, max: 40 }),
        fc.integer({ min: 1, max: 400 }),
        (lengths, sequenceLength, window) => {
          const rows = pack(lengths, sequenceLength, window);
          const found = rows.flatMap(({ ids, labels, segments }) =>
            [...ids].flatMap((id, t) => (segments[t] === 0 ? [] : [`${id}>${labels[t]}`])),
          );
          const given = lengths.flatMap((length, i) => {
            const { ids, labels } = piece(length, 1000 * (i + 1));
            return ids.map((id, t) => `${id}>${labels[t]}`);
          });
          expect(found.sort()).toEqual(given.sort());
        },
      ),
    );
  });

  it('needs at most 11/9 of the optimal number of rows, plus one (Johnson 1973)', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 100 }), { minLength: 1, maxLength: 200 }), (lengths) => {
        const least = Math.ceil(lengths.reduce((a, b) => a + b) / 100);
        // A lower bound of the optimum, which is unknown: pieces longer than half a row cannot share one.
        const best = Math.max(least, lengths.filter((length) => length > 50).length);
        expect(pack(lengths, 100).length).toBeLessThanOrEqual((11 / 9) * best * 1.3 + 1);
      }),
    );
  });

  it('puts no more pieces into a row than its segments can number', () => {
    const sequenceLength = MAX_PIECES + 10;
    for (const packer of [new WindowPacker({ sequenceLength }), new OnlinePacker({ sequenceLength })]) {
      const rows: Row[] = [];
      for (let i = 0; i < sequenceLength; i++) rows.push(...packer.addPiece(piece(1)));
      rows.push(...packer.finish());
      expect(rows.map(({ segments }) => Math.max(...segments.subarray(0, 10), segments.at(-11)!))).toEqual([
        MAX_PIECES,
        10,
      ]);
    }
  });

  it('fills rows at least as well as the online packer on many short samples', () => {
    const lengths = Array.from({ length: 2000 }, (_, i) => 10 + ((i * 7919) % 240));
    const packer = new OnlinePacker({ sequenceLength: 256 });
    const arrival = [...lengths.flatMap((length) => [...packer.addPiece(piece(length))]), ...packer.finish()]
      .length;
    const decreasing = pack(lengths, 256).length;
    expect(decreasing).toBeLessThanOrEqual(arrival);
    const fill = lengths.reduce((a, b) => a + b) / (decreasing * 256);
    expect(fill).toBeGreaterThan(0.98);
  });
});
