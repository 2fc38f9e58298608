import { countOf, formatCount, formatPercent } from '../../../common/text.ts';
import type { RowSummary } from '../../../protocol/api/job-creation.ts';
import { mostAreCut } from '../packing/tally.ts';
import type { Finding, InspectionCounts, Level } from './inspection.ts';
import { OVERLAP_TOKENS } from './overlap.ts';

/** Share of truncated samples above which a warning is given. */
const MANY_TRUNCATED = 0.1;
/** Fill ratio of packed rows below which a note is given. */
const LOW_FILL = 0.8;

/** Returns the findings, the most severe first. */
export function findingsOf(counts: InspectionCounts, { badRowShare }: { badRowShare: number }): Finding[] {
  const all = [
    ...rowFindings(counts.read, { badRowShare, heldOut: false }),
    ...(counts.heldOutRead === null ? [] : rowFindings(counts.heldOutRead, { badRowShare, heldOut: true })),
    ...sampleFindings(counts),
    ...maskFindings(counts),
    ...specialTokenFindings(counts),
    ...lengthFindings(counts),
    ...repetitionFindings(counts),
  ];
  const order: readonly Level[] = ['error', 'warning', 'note'];
  return all.sort((a, b) => order.indexOf(a.level) - order.indexOf(b.level));
}

function finding(level: Level, code: string, message: string, next: string | null = null): Finding {
  return { level, code, message, next };
}

function* rowFindings(
  read: RowSummary,
  { badRowShare, heldOut }: { badRowShare: number; heldOut: boolean },
): Generator<Finding> {
  const [prefix, where] = heldOut ? ['HELD_OUT_', ' of the held-out data'] : ['', ''];
  const breaks = read.reasons.find(({ code }) => code === 'DATA_TEMPLATE');
  if (breaks !== undefined) {
    const { file, row } = breaks.rows[0]!.origin;
    yield finding(
      'error',
      `${prefix}TEMPLATE_PREFIX`,
      `the chat template rewrites earlier turns of ${countOf(breaks.count, 'conversation')}${where}, first at ` +
        `${file}:${row}; training would stop there`,
      'use --train-on turns, or a template that does not change earlier turns',
    );
  }
  const bad = read.bad - (breaks?.count ?? 0);
  if (bad > 0) {
    const stops = bad > badRowShare * read.rows;
    yield finding(
      stops ? 'error' : 'warning',
      `${prefix}BAD_ROWS`,
      `${formatCount(bad)} of ${countOf(read.rows, 'record')}${where} cannot be used (${formatPercent(bad / read.rows)})` +
        (stops ? `; training stops above ${formatPercent(badRowShare)}` : ''),
      stops ? 'correct the records, or allow more of them with --bad-rows' : null,
    );
  }
}

function* sampleFindings({ read, tally, partial }: InspectionCounts): Generator<Finding> {
  if (tally.samples === 0) {
    const why =
      read.rows === 0
        ? 'the files contain no records'
        : read.bad > 0
          ? 'no record can be used'
          : 'all texts in the files are empty';
    yield finding('error', 'EMPTY', `there is nothing to train on: ${why}`);
  }
  if (partial) {
    yield finding(
      'note',
      'PARTIAL',
      `inspection stopped after ${countOf(tally.samples, 'sample')} (--limit)`,
    );
  }
}

function* maskFindings({ tally }: InspectionCounts): Generator<Finding> {
  if (tally.samples > 0 && tally.untrained > 0) {
    yield finding(
      leftOut(tally) === tally.samples ? 'error' : 'warning',
      'UNTRAINED',
      `${countOf(tally.untrained, 'sample')} (${formatPercent(tally.untrained / tally.samples)}) without a trained token ` +
        `${were(tally.untrained)} left out${firstUntrained(tally)}`,
    );
  }
  if (tally.merged > 0) {
    yield finding(
      'note',
      'MERGED',
      `${countOf(tally.merged, 'sample')} in which one token spans the end of the prompt and the start of the answer; this token is trained`,
      'end each prompt after a word, without a trailing space',
    );
  }
}

function firstUntrained({ untrainedRows: [first] }: InspectionCounts['tally']): string {
  return first === undefined ? '' : `, first ${first.origin.file}:${first.origin.row}: ${first.reason}`;
}

function were(count: number): string {
  return count === 1 ? 'was' : 'were';
}

function leftOut({ untrained, dropped }: InspectionCounts['tally']): number {
  return untrained + dropped;
}

function* specialTokenFindings({ specialTokens, tally, kinds }: InspectionCounts): Generator<Finding> {
  const { samples } = tally;
  if (samples === 0) return;
  const { doubleBos, withoutBos, withoutEnd, endWithOther, unknownTokens, withUnknown } = specialTokens;
  if (doubleBos > 0) {
    yield finding(
      'warning',
      'DOUBLE_BOS',
      `${countOf(doubleBos, 'sample')} with two beginning-of-text tokens at the start`,
    );
  }
  // Records in the formats `segments` and `tokens` contain their own special tokens. If a special token is missing,
  // this may be intended.
  const ownTokens = (kinds.segments ?? 0) + (kinds.tokens ?? 0);
  if (withoutBos > 0) {
    yield finding(
      ownTokens === samples ? 'note' : 'warning',
      'WITHOUT_BOS',
      `${countOf(withoutBos, 'sample')} without the beginning-of-text token that the tokenizer puts before a text; ` +
        'the template or the data leaves it out',
    );
  }
  if (withoutEnd > 0) {
    yield finding(
      'warning',
      'WITHOUT_END',
      `${countOf(withoutEnd, 'sample')} without a special token at the end of the trained part; the model will not learn ` +
        'where an answer ends',
    );
  }
  for (const [text, count] of Object.entries(endWithOther)) {
    yield finding(
      'note',
      'OTHER_END',
      `${countOf(count, 'sample')} with ${text} at the end, instead of the tokenizer's end-of-text token`,
      'let generation stop at this token',
    );
  }
  if (unknownTokens > 0) {
    yield finding(
      'warning',
      'UNKNOWN_TOKENS',
      `${countOf(unknownTokens, 'unknown token')} in ${countOf(withUnknown, 'sample')}: the tokenizer does not know these characters`,
    );
  }
}

function* lengthFindings({ tally, fill, sequenceLength }: InspectionCounts): Generator<Finding> {
  if (tally.dropped > 0) {
    yield finding(
      leftOut(tally) === tally.samples ? 'error' : 'warning',
      'DROPPED',
      `${countOf(tally.dropped, 'sample')} of more than ${sequenceLength} tokens ${were(tally.dropped)} left out`,
    );
  }
  const most = mostAreCut(tally);
  if (most !== null) yield finding('warning', 'MOST_CUT', most.message, most.next);
  else if (tally.truncated > 0) {
    const share = tally.truncated / tally.samples;
    yield finding(
      share > MANY_TRUNCATED ? 'warning' : 'note',
      'TRUNCATED',
      `${countOf(tally.truncated, 'sample')} (${formatPercent(share)}) of more than ${sequenceLength} tokens ${were(tally.truncated)} cut`,
      'raise --sequence-length to keep them whole',
    );
  }
  if (fill !== null && fill < LOW_FILL && tally.rows > 1) {
    yield finding(
      'note',
      'LOW_FILL',
      `packed rows are ${formatPercent(fill)} full; the rest is padding, which costs training time`,
      'try another --sequence-length or --packing',
    );
  }
}

function* repetitionFindings({ duplicates, overlap, tally }: InspectionCounts): Generator<Finding> {
  const about = duplicates.sampledOneIn > 1 ? 'about ' : '';
  if (duplicates.count > 0) {
    yield finding(
      'warning',
      'DUPLICATES',
      `${about}${countOf(duplicates.count, 'exact duplicate')} of earlier samples (${formatPercent(duplicates.count / tally.samples)})`,
    );
  }
  if (overlap === null) return;
  if (overlap.heldOut === 0) {
    yield finding('error', 'HELD_OUT_EMPTY', 'the held-out data contains no samples');
  }
  if (overlap.equal > 0 || overlap.known > 0) {
    yield finding(
      'warning',
      'OVERLAP',
      `the training data contains ${about}${formatCount(overlap.equal)} of ${countOf(overlap.heldOut, 'held-out sample')} completely. ` +
        `In ${countOf(overlap.known, 'held-out sample')}, at least half of the sequences of ${OVERLAP_TOKENS} trained tokens also occur in the training data. The held-out loss will therefore be too low`,
      'remove these samples from the training data or from the held-out data',
    );
  } else if (overlap.touched > 0) {
    yield finding(
      'note',
      'OVERLAP_SLIGHT',
      `${countOf(overlap.touched, 'held-out sample')} with at least one sequence of ${OVERLAP_TOKENS} trained tokens that also occurs in the training data`,
    );
  }
}
