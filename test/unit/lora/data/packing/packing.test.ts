import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { layOut } from '../../../../../lora/data/packing/pieces.ts';
import { emptyRow, IGNORED_LABEL, predictedTokens, type Row } from '../../../../../lora/data/row.ts';
import { packSequences } from '../../../../../scripts/pretrain/pack-documents.ts';
import { withCode } from '../../../../utils/source/codes.ts';

const sequences = fc.array(fc.array(fc.integer({ min: 2, max: 500 }), { maxLength: 80 }), { maxLength: 40 });
const lengths = fc.integer({ min: 2, max: 40 });

/** Returns the pieces of a row, in order. */
function piecesOf(row: Row): { ids: number[]; labels: number[] }[] {
  const pieces: { ids: number[]; labels: number[] }[] = [];
  row.segments.forEach((segment, t) => {
    if (segment === 0) return;
    pieces[segment - 1] ??= { ids: [], labels: [] };
    pieces[segment - 1]!.ids.push(row.ids[t]!);
    pieces[segment - 1]!.labels.push(row.labels[t]!);
  });
  return pieces;
}

describe('packing', () => {
  it('predicts every token after the first exactly once, from the token before it', () => {
    fc.assert(
      fc.property(sequences, lengths, (texts, sequenceLength) => {
        const pairs = texts.flatMap((text) => text.slice(1).map((token, i) => `${text[i]}>${token}`));
        const packed = [...packSequences(texts, { sequenceLength })].flatMap((row) =>
          piecesOf(row).flatMap(({ ids, labels }) => labels.map((label, i) => `${ids[i]}>${label}`)),
        );
        expect(packed.sort()).toEqual(pairs.sort());
      }),
    );
  });

  it('keeps the tokens of a piece together and in order, and starts later pieces with `restart`', () => {
    fc.assert(
      fc.property(sequences, lengths, (texts, sequenceLength) => {
        const rows = [...packSequences(texts, { sequenceLength, restart: 0 })];
        for (const { ids, labels } of rows.flatMap(piecesOf)) {
          // Inside a piece, each input token is the label before it.
          expect(ids.slice(1)).toEqual(labels.slice(0, -1));
        }
        const cut = texts.reduce(
          (sum, { length }) => sum + Math.max(0, Math.ceil((length - 1) / sequenceLength) - 1),
          0,
        );
        const restarted = rows.flatMap(piecesOf).filter(({ ids }) => ids[0] === 0).length;
        expect(restarted).toBe(cut);
      }),
    );
  });

  it('numbers segments from 1 and puts empty padding at the end', () => {
    fc.assert(
      fc.property(sequences, lengths, (texts, sequenceLength) => {
        for (const row of packSequences(texts, { sequenceLength })) {
          const padding = row.segments.indexOf(0);
          const used = padding < 0 ? sequenceLength : padding;
          expect(row.segments[0]).toBe(1);
          for (let t = 1; t < used; t++) expect(row.segments[t]! - row.segments[t - 1]!).toBeOneOf([0, 1]);
          const rest = emptyRow(sequenceLength - used);
          expect(row.segments.slice(used)).toEqual(rest.segments);
          expect(row.ids.slice(used)).toEqual(rest.ids);
          expect(row.labels.slice(used)).toEqual(rest.labels);
        }
      }),
    );
  });

  it('fills rows with several short pieces', () => {
    const texts = Array.from({ length: 64 }, (_, i) => Array.from({ length: 2 + (i % 7) }, () => 5));
    const rows = [...packSequences(texts, { sequenceLength: 32 })];
    const predictions = texts.reduce((sum, { length }) => sum + length - 1, 0);
    expect(rows.length).toBe(Math.ceil(predictions / 32));
  });

  it('counts predicted tokens', () => {
    const piece = { ids: [3, 4, 5], labels: [IGNORED_LABEL, 5, 6] };
    expect(predictedTokens(layOut([piece, piece], 8))).toBe(4);
  });

  it('refuses rows too short for a prediction with context', () => {
    expect(() => [...packSequences([[1, 2]], { sequenceLength: 1 })]).toThrow(withCode('PACK_LENGTH'));
  });
});
