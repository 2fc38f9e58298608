import type { RowSummary, RowTally } from '../../../protocol/api/job-creation.ts';
import type { Example } from '../examples.ts';
import type { DuplicateCount } from './duplicates.ts';
import type { LengthSummary } from './lengths.ts';
import type { NodeShare } from './node-share.ts';
import type { OverlapCount } from './overlap.ts';
import type { SpecialTokenCount } from './special-tokens.ts';
import type { ShownToken } from './token-texts.ts';

/** A sample with its tokens as text. */
export interface ShownSample {
  origin: Example['origin'];
  kind: Example['kind'];
  /** The first tokens of the sample. */
  tokens: ShownToken[];
  /** Number of further tokens, which are not shown. */
  more: number;
  /** Number of supervised tokens in the whole sample. */
  trained: number;
}

/** Counts and other facts about the inspected data. */
export interface InspectionCounts {
  /** Number of tokens in a packed row (T). */
  sequenceLength: number;
  /** Source of the chat template: a file, or "built in: chatml"; null if there is no template. */
  template: string | null;
  /** Number of samples of each kind. */
  kinds: Partial<Record<Example['kind'], number>>;
  /** Records read from the training data. */
  read: RowSummary;
  /** Records read from the held-out data; null if there is none. */
  heldOutRead: RowSummary | null;
  tally: RowTally;
  /** Fill ratio: share of the positions in packed rows that hold tokens. null if there are no packed rows. */
  fill: number | null;
  /** Lengths of the samples; null if there are no samples. */
  lengths: LengthSummary | null;
  specialTokens: SpecialTokenCount;
  duplicates: DuplicateCount;
  /** Overlap of training data and held-out data; null if there is no held-out data. */
  overlap: OverlapCount | null;
  share: NodeShare;
  samples: ShownSample[];
  /** Whether `limit` ended the inspection before the end of the data. */
  partial: boolean;
}

/**
 * - `error`: training would stop, or the model would learn nothing
 * - `warning`: the model would learn something that is probably not intended
 * - `note`: worth knowing
 */
export type Level = 'error' | 'warning' | 'note';

/** A property of the data that the user should know before training. */
export interface Finding {
  level: Level;
  code: string;
  message: string;
  /** Advice about the finding; null if there is none. */
  next: string | null;
}

/** The result of `inspect`. */
export interface Inspection extends InspectionCounts {
  /** The findings, the most severe first. */
  findings: Finding[];
}
