import type { Example } from '../examples.ts';
import type { RowTally } from '../packing/tally.ts';
import type { RowSummary } from '../row-report.ts';
import type { DuplicateCount } from './duplicates.ts';
import type { Finding } from './findings.ts';
import type { LengthSummary } from './lengths.ts';
import type { NodeShare } from './node-share.ts';
import type { OverlapCount } from './overlap.ts';
import type { SpecialTokenCount } from './special-tokens.ts';
import type { ShownToken } from './token-texts.ts';

/** A sample with its tokens as text. */
export interface ShownSample {
  origin: Example['origin'];
  kind: Example['kind'];
  /** The first tokens. */
  tokens: ShownToken[];
  /** Number of tokens after those. */
  more: number;
  /** Trained tokens of the whole sample. */
  trained: number;
}

/** What was counted in the data. */
export interface InspectionCounts {
  /** T, tokens per row. */
  sequenceLength: number;
  /** Where the chat template comes from: a file, or "built in: chatml". null: there is none. */
  template: string | null;
  /** Samples by kind. */
  kinds: Partial<Record<Example['kind'], number>>;
  /** Rows read from the training data. */
  read: RowSummary;
  /** Rows read from the held-out data; null if there is none. */
  heldOutRead: RowSummary | null;
  tally: RowTally;
  /** Share of the packed rows' positions that hold tokens; null if there are no rows. */
  fill: number | null;
  /** null if there are no samples. */
  lengths: LengthSummary | null;
  specialTokens: SpecialTokenCount;
  duplicates: DuplicateCount;
  /** null if there is no held-out data. */
  overlap: OverlapCount | null;
  share: NodeShare;
  samples: ShownSample[];
  /** Whether `limit` ended the inspection before the end of the data. */
  partial: boolean;
}

/** The result of `inspect`. */
export interface Inspection extends InspectionCounts {
  /** The most severe first. */
  findings: Finding[];
}
