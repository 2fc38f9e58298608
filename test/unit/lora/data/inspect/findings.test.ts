import { describe, expect, it } from 'vitest';
import { findingsOf } from '../../../../../lora/data/inspect/findings.ts';
import type { InspectionCounts } from '../../../../../lora/data/inspect/inspection.ts';
import { newTally } from '../../../../../lora/data/packing/tally.ts';
import { inspectionCounts } from '../../../../utils/inspection.ts';

const codes = (overrides: Partial<InspectionCounts>, badRowShare = 0.01) =>
  findingsOf(inspectionCounts(overrides), { badRowShare }).map(({ level, code }) => `${level} ${code}`);

describe('findings', () => {
  it('are none if there is no problem', () => {
    expect(codes({})).toEqual([]);
  });

  it('name each problem, the most severe first', () => {
    const reason = (code: string, count: number) => ({
      code,
      count,
      rows: [{ origin: { file: 'a', row: 1 }, code, reason: 'so' }],
    });
    const { tally, specialTokens } = inspectionCounts();
    expect(codes({ read: { rows: 10, bad: 1, reasons: [reason('ROW_NOT_JSON', 1)] } })).toEqual([
      'error BAD_ROWS',
    ]);
    expect(codes({ read: { rows: 10, bad: 1, reasons: [reason('ROW_NOT_JSON', 1)] } }, 0.5)).toEqual([
      'warning BAD_ROWS',
    ]);
    expect(codes({ read: { rows: 10, bad: 1, reasons: [reason('DATA_TEMPLATE', 1)] } })).toEqual([
      'error TEMPLATE_PREFIX',
    ]);
    const heldOutRead = { rows: 10, bad: 2, reasons: [reason('ROW_FIELD', 1), reason('DATA_TEMPLATE', 1)] };
    expect(codes({ heldOutRead })).toEqual(['error HELD_OUT_TEMPLATE_PREFIX', 'error HELD_OUT_BAD_ROWS']);
    expect(codes({ tally: newTally() })).toEqual(['error EMPTY']);
    expect(codes({ tally: { ...tally, truncated: 10, longest: 900 } })).toEqual(['warning MOST_CUT']);
    expect(codes({ tally: { ...tally, untrained: 10 } })).toEqual(['error UNTRAINED']);
    expect(codes({ tally: { ...tally, untrained: 4, dropped: 6 } })).toEqual([
      'error UNTRAINED',
      'error DROPPED',
    ]);
    expect(
      codes({ tally: { ...tally, untrained: 1, truncated: 1, merged: 2, dropped: 1 }, partial: true }),
    ).toEqual(['warning UNTRAINED', 'warning DROPPED', 'note PARTIAL', 'note MERGED', 'note TRUNCATED']);
    expect(
      codes({
        fill: 0.5,
        specialTokens: {
          ...specialTokens,
          doubleBos: 1,
          withoutBos: 1,
          withoutEnd: 1,
          unknownTokens: 1,
          withUnknown: 1,
          endWithOther: { '<|im_end|>': 2 },
        },
      }),
    ).toEqual([
      'warning DOUBLE_BOS',
      'warning WITHOUT_BOS',
      'warning WITHOUT_END',
      'warning UNKNOWN_TOKENS',
      'note OTHER_END',
      'note LOW_FILL',
    ]);
    const overlap = {
      heldOut: 4,
      equal: 1,
      touched: 2,
      known: 1,
      withSequences: 4,
      sampledOneIn: 1,
      named: [],
    };
    expect(codes({ overlap, duplicates: { count: 2, sampledOneIn: 2, named: [] } })).toEqual([
      'warning DUPLICATES',
      'warning OVERLAP',
    ]);
    expect(codes({ overlap: { ...overlap, equal: 0, known: 0 } })).toEqual(['note OVERLAP_SLIGHT']);
    expect(codes({ overlap: { ...overlap, heldOut: 0, equal: 0, known: 0, touched: 0 } })).toEqual([
      'error HELD_OUT_EMPTY',
    ]);
  });
});
