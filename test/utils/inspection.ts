import type { InspectionCounts } from '../../lora/data/inspect/inspection.ts';
import { newTally } from '../../lora/data/packing/tally.ts';

/** Counts of ten samples without any problem. */
export function inspectionCounts(overrides: Partial<InspectionCounts> = {}): InspectionCounts {
  return {
    sequenceLength: 64,
    template: null,
    kinds: { text: 10 },
    read: { rows: 10, bad: 0, reasons: [] },
    heldOutRead: null,
    tally: { ...newTally(), samples: 10, rows: 4, sampleTokens: 240, rowTokens: 230, trainedTokens: 200 },
    fill: 230 / 256,
    lengths: {
      samples: 10,
      mean: 24,
      shortest: 20,
      median: 24,
      p95: 30,
      longest: 30,
      histogram: [{ from: 20, to: 30, samples: 10 }],
    },
    specialTokens: {
      doubleBos: 0,
      withoutBos: 0,
      endWithEos: 10,
      endWithOther: {},
      withoutEnd: 0,
      unknownTokens: 0,
      withUnknown: 0,
    },
    duplicates: { count: 0, sampledOneIn: 1, named: [] },
    overlap: null,
    share: { nodes: 2, rows: 2, trainedTokens: 100, shards: 1, bytes: 1536 },
    samples: [
      {
        origin: { file: 'data.jsonl', row: 3 },
        kind: 'text',
        tokens: [
          { id: 5, text: 'Say\n', trained: false },
          { id: 6, text: 'It is', trained: true },
          { id: 7, text: ' yes', trained: true },
          { id: 8, text: ' no', trained: false },
        ],
        more: 2,
        trained: 3,
      },
    ],
    partial: false,
    ...overrides,
  };
}
