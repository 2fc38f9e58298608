/** What people should know before they train on their data. */

import { formatCount } from '../../../common/text.ts';
import type { RowSummary } from '../row-report.ts';
import type { Inspection } from './inspection.ts';
import { RUN_TOKENS } from './overlap.ts';
import { percent, some } from './plural.ts';

/** `error`: training stops or learns nothing. `warning`: it learns something that is most likely not meant. */
export type Level = 'error' | 'warning' | 'note';

export interface Finding {
  level: Level;
  code: string;
  message: string;
}

/** Truncated samples above this share are worth a warning. */
const MANY_TRUNCATED = 0.1;
/** Rows filled less than this waste work. */
const LOW_FILL = 0.8;

/** The worst first. */
export function findingsOf(inspection: Inspection, { badRowShare }: { badRowShare: number }): Finding[] {
  const all = [
    ...rowFindings(inspection.read, { badRowShare, heldOut: false }),
    ...(inspection.heldOutRead === null
      ? []
      : rowFindings(inspection.heldOutRead, { badRowShare, heldOut: true })),
    ...sampleFindings(inspection),
    ...maskFindings(inspection),
    ...endFindings(inspection),
    ...lengthFindings(inspection),
    ...repetitionFindings(inspection),
  ];
  const order: readonly Level[] = ['error', 'warning', 'note'];
  return all.sort((a, b) => order.indexOf(a.level) - order.indexOf(b.level));
}

function* rowFindings(
  read: RowSummary,
  { badRowShare, heldOut }: { badRowShare: number; heldOut: boolean },
): Generator<Finding> {
  const [prefix, of] = heldOut ? ['HELD_OUT_', ' of the held-out data'] : ['', ''];
  const breaks = read.reasons.find(({ code }) => code === 'DATA_TEMPLATE');
  if (breaks !== undefined) {
    const { origin } = breaks.first;
    yield {
      level: 'error',
      code: `${prefix}TEMPLATE_PREFIX`,
      message:
        `the chat template rewrites earlier turns of ${some(breaks.count, 'conversation')}${of}, first in ` +
        `${origin.file}:${origin.row}: training stops there; use --train-on turns, or a template that only appends`,
    };
  }
  const bad = read.bad - (breaks?.count ?? 0);
  if (bad > 0) {
    const stops = bad > badRowShare * read.rows;
    yield {
      level: stops ? 'error' : 'warning',
      code: `${prefix}BAD_ROWS`,
      message:
        `${formatCount(bad)} of ${some(read.rows, 'row')}${of} cannot be used (${percent(bad / read.rows)})` +
        (stops ? `; training stops above ${percent(badRowShare)}, see --bad-rows` : ''),
    };
  }
}

function* sampleFindings({ read, tally, partial }: Inspection): Generator<Finding> {
  if (tally.samples === 0) {
    const why =
      read.rows === 0
        ? 'the files hold no row'
        : read.bad > 0
          ? 'no row can be used'
          : 'the texts of the files are empty';
    yield { level: 'error', code: 'EMPTY', message: `there is nothing to train on: ${why}` };
  }
  if (partial) {
    yield {
      level: 'note',
      code: 'PARTIAL',
      message: `only the first ${some(tally.samples, 'sample')} were looked at (--limit)`,
    };
  }
}

function* maskFindings({ tally }: Inspection): Generator<Finding> {
  if (tally.samples > 0 && tally.untrained > 0) {
    yield {
      level: leftOut(tally) === tally.samples ? 'error' : 'warning',
      code: 'UNTRAINED',
      message:
        `without a token to train, left out: ${some(tally.untrained, 'sample')} (${percent(tally.untrained / tally.samples)}), ` +
        'which are conversations without an answer or lost it when they were cut',
    };
  }
  if (tally.merged > 0) {
    yield {
      level: 'note',
      code: 'MERGED',
      message:
        `a token that holds the end of a prompt and the start of an answer, and is trained: in ${some(tally.merged, 'sample')}; ` +
        'prompts should end where words end, not with a blank',
    };
  }
}

function leftOut({ untrained, dropped }: Inspection['tally']): number {
  return untrained + dropped;
}

function* endFindings({ specialTokens: count, tally, kinds }: Inspection): Generator<Finding> {
  const { samples } = tally;
  if (samples === 0) return;
  const found = (level: Level, code: string, message: string): Finding => ({ level, code, message });
  if (count.doubleBos > 0) {
    yield found(
      'warning',
      'DOUBLE_BOS',
      `the beginning-of-text token twice: at the start of ${some(count.doubleBos, 'sample')}`,
    );
  }
  const own = (kinds.segments ?? 0) + (kinds.tokens ?? 0);
  if (count.withoutBos > 0) {
    yield found(
      own === samples ? 'note' : 'warning',
      'WITHOUT_BOS',
      `no beginning-of-text token, which the tokenizer puts before a text: at the start of ${some(count.withoutBos, 'sample')}; ` +
        'the template or the data leaves it out',
    );
  }
  if (count.withoutEnd > 0) {
    yield found(
      'warning',
      'WITHOUT_END',
      `no special token at the end of the trained part: in ${some(count.withoutEnd, 'sample')}; the model will not learn where ` +
        'an answer ends',
    );
  }
  for (const [text, samplesWithIt] of Object.entries(count.endWithOther)) {
    yield found(
      'note',
      'OTHER_END',
      `${text} instead of the tokenizer's end-of-text token: at the end of ${some(samplesWithIt, 'sample')}; generation must ` +
        'stop at it',
    );
  }
  if (count.unknownTokens > 0) {
    yield found(
      'warning',
      'UNKNOWN_TOKENS',
      `characters that the tokenizer does not know: ${some(count.unknownTokens, 'token')} in ` +
        some(count.withUnknown, 'sample'),
    );
  }
}

function* lengthFindings({ tally, fill, sequenceLength }: Inspection): Generator<Finding> {
  if (tally.dropped > 0) {
    yield {
      level: leftOut(tally) === tally.samples ? 'error' : 'warning',
      code: 'DROPPED',
      message: `longer than ${sequenceLength} tokens, left out: ${some(tally.dropped, 'sample')}`,
    };
  }
  if (tally.truncated > 0) {
    const share = tally.truncated / tally.samples;
    yield {
      level: share > MANY_TRUNCATED ? 'warning' : 'note',
      code: 'TRUNCATED',
      message:
        `longer than ${sequenceLength} tokens, cut: ${some(tally.truncated, 'sample')} (${percent(share)}); a longer ` +
        '--sequence-length keeps them whole',
    };
  }
  if (fill !== null && fill < LOW_FILL && tally.rows > 1) {
    yield {
      level: 'note',
      code: 'LOW_FILL',
      message: `rows are ${percent(fill)} full: the rest is padding that costs time; another --sequence-length or --packing may fit better`,
    };
  }
}

function* repetitionFindings({ duplicates, overlap, tally }: Inspection): Generator<Finding> {
  const about = duplicates.sampledOneIn > 1 ? 'about ' : '';
  if (duplicates.count > 0) {
    yield {
      level: 'warning',
      code: 'DUPLICATES',
      message: `exact repetitions of earlier samples: ${about}${some(duplicates.count, 'sample')} (${percent(duplicates.count / tally.samples)})`,
    };
  }
  if (overlap === null) return;
  if (overlap.heldOut === 0) {
    yield { level: 'error', code: 'HELD_OUT_EMPTY', message: 'the held-out data holds no sample' };
  }
  if (overlap.equal > 0 || overlap.known > 0) {
    yield {
      level: 'warning',
      code: 'OVERLAP',
      message:
        `of ${some(overlap.heldOut, 'held-out sample')}, ${about}${formatCount(overlap.equal)} stand in the training data too, and ` +
        `${formatCount(overlap.known)} share at least half of their runs of ${RUN_TOKENS} trained tokens with it; the held-out ` +
        'loss will look better than it is',
    };
  } else if (overlap.touched > 0) {
    yield {
      level: 'note',
      code: 'OVERLAP_SLIGHT',
      message: `a run of ${RUN_TOKENS} trained tokens in common with the training data: in ${some(overlap.touched, 'held-out sample')}`,
    };
  }
}
