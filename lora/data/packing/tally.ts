import { countOf, formatCount } from '../../../common/text.ts';
import type { RowTally } from '../../../protocol/api/job-creation.ts';

/** Maximum number of untrained samples that a tally names. All of them are counted. */
export const NAMED_UNTRAINED = 10;

export function newTally(): RowTally {
  return {
    samples: 0,
    sampleTokens: 0,
    longest: 0,
    truncated: 0,
    dropped: 0,
    split: 0,
    untrained: 0,
    untrainedRows: [],
    heldOut: 0,
    merged: 0,
    rows: 0,
    rowTokens: 0,
    trainedTokens: 0,
  };
}

/** Share of cut samples above which a warning is given, because the model then rarely sees a whole sample. */
const MAX_CUT_SHARE = 0.5;

/** Returns a warning with advice if most samples, or all of them, are longer than a packed row and were cut; else null. */
export function mostAreCut({
  samples,
  truncated,
  longest,
}: RowTally): { message: string; next: string } | null {
  if (truncated <= MAX_CUT_SHARE * samples) return null;
  const which =
    truncated === samples
      ? `all ${countOf(samples, 'sample')}`
      : `${formatCount(truncated)} of ${countOf(samples, 'sample')}`;
  return {
    message: `${which} were longer than a packed row and were cut, so the model learns from incomplete texts`,
    // A row needs one token less than its sample, because the last token of a sample is predicted, but is not
    // an input.
    next: `raise training.sequenceLength (--sequence-length); ${longest - 1} is enough for the longest sample`,
  };
}

/** Returns a phrase for messages that explains why the data gave no row. */
export function whyNoRows({ samples, untrained, dropped, heldOut }: RowTally): string {
  if (samples === 0) return 'the files gave no sample';
  const reasons = [
    [untrained, 'had no trained token (such as a conversation without an answer)'],
    [dropped, 'exceeded the length of a row'],
    [heldOut, 'are held-out samples'],
  ].flatMap(([count, what]) => (count === 0 ? [] : [`${count} ${what}`]));
  return `of ${countOf(samples, 'sample')}, ${reasons.join(', and ')}`;
}
