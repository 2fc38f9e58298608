/** What people should know before they train on their data. */
import { formatCount } from '../../monitor/text.ts';
import type { Inspection } from './inspection.ts';
import { KNOWN_SHARE, RUN_TOKENS } from './overlap.ts';
import { percent, some } from './words.ts';

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
    ...rowFindings(inspection, badRowShare),
    ...maskFindings(inspection),
    ...endFindings(inspection),
    ...lengthFindings(inspection),
    ...repetitionFindings(inspection),
  ];
  const order: readonly Level[] = ['error', 'warning', 'note'];
  return all.sort((a, b) => order.indexOf(a.level) - order.indexOf(b.level));
}

function* rowFindings({ read, tally, partial }: Inspection, badRowShare: number): Generator<Finding> {
  const breaks = read.reasons.find(({ code }) => code === 'DATA_TEMPLATE');
  if (breaks !== undefined) {
    const { origin } = breaks.first;
    yield {
      level: 'error',
      code: 'TEMPLATE_PREFIX',
      message:
        `the chat template rewrites earlier turns of ${some(breaks.count, 'conversation')}, first in ` +
        `${origin.file}:${origin.row}: training stops there; use --train-on last or all, or a template that only appends`,
    };
  }
  const bad = read.bad - (breaks?.count ?? 0);
  if (bad > 0) {
    const stops = bad > badRowShare * read.rows;
    yield {
      level: stops ? 'error' : 'warning',
      code: 'BAD_ROWS',
      message:
        `${formatCount(bad)} of ${some(read.rows, 'row')} cannot be used (${percent(bad / read.rows)})` +
        (stops ? `; training stops above ${percent(badRowShare)}, see --bad-rows` : ''),
    };
  }
  if (tally.samples === 0) {
    yield {
      level: 'error',
      code: 'EMPTY',
      message: 'there is nothing to train on: no row became a sample; see --format and --column',
    };
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
      level: tally.untrained === tally.samples ? 'error' : 'warning',
      code: 'UNTRAINED',
      message:
        `${some(tally.untrained, 'sample')} (${percent(tally.untrained / tally.samples)}) have no token to train and are ` +
        'left out: conversations without an answer, or an answer that was cut away',
    };
  }
  if (tally.merged > 0) {
    yield {
      level: 'note',
      code: 'MERGED',
      message:
        `in ${some(tally.merged, 'sample')} one token holds the end of a prompt and the start of an answer; it is trained. ` +
        'End prompts where words end, not with a blank',
    };
  }
}

function* endFindings({ specialTokens: count, tally, kinds }: Inspection): Generator<Finding> {
  const { samples } = tally;
  if (samples === 0) return;
  const found = (level: Level, code: string, message: string): Finding => ({ level, code, message });
  if (count.doubleBos > 0) {
    yield found(
      'warning',
      'DOUBLE_BOS',
      `${some(count.doubleBos, 'sample')} begin with the beginning-of-text token twice`,
    );
  }
  const own = (kinds.segments ?? 0) + (kinds.tokens ?? 0);
  if (count.withoutBos > 0) {
    yield found(
      own === samples ? 'note' : 'warning',
      'WITHOUT_BOS',
      `${some(count.withoutBos, 'sample')} do not begin as the tokenizer begins a text: the template (or the data) does not ` +
        'write the beginning-of-text token',
    );
  }
  if (count.withoutEnd > 0) {
    yield found(
      'warning',
      'WITHOUT_END',
      `the trained part of ${some(count.withoutEnd, 'sample')} does not end with a special token: the model will not learn ` +
        'where an answer ends',
    );
  }
  for (const [text, samplesWithIt] of Object.entries(count.endWithOther)) {
    yield found(
      'note',
      'OTHER_END',
      `${some(samplesWithIt, 'sample')} end with ${text}, which is not the tokenizer's end-of-text token: generation must ` +
        'stop at it',
    );
  }
  if (count.unknownTokens > 0) {
    yield found(
      'warning',
      'UNKNOWN_TOKENS',
      `${some(count.unknownTokens, 'token')} in ${some(count.withUnknown, 'sample')} stand for characters that the tokenizer ` +
        'does not know',
    );
  }
}

function* lengthFindings({ tally, fill, sequenceLength }: Inspection): Generator<Finding> {
  if (tally.dropped > 0) {
    yield {
      level: 'warning',
      code: 'DROPPED',
      message: `${some(tally.dropped, 'sample')} are longer than ${sequenceLength} tokens and left out`,
    };
  }
  if (tally.truncated > 0) {
    const share = tally.truncated / tally.samples;
    yield {
      level: share > MANY_TRUNCATED ? 'warning' : 'note',
      code: 'TRUNCATED',
      message:
        `${some(tally.truncated, 'sample')} (${percent(share)}) are longer than ${sequenceLength} tokens and cut; a longer ` +
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
  if (duplicates.count > 0) {
    const about = duplicates.sampledOneIn > 1 ? 'about ' : '';
    yield {
      level: 'warning',
      code: 'DUPLICATES',
      message: `${about}${some(duplicates.count, 'sample')} (${percent(duplicates.count / tally.samples)}) repeat an earlier one exactly`,
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
        `of ${some(overlap.heldOut, 'held-out sample')}, ${formatCount(overlap.equal)} are in the training data and ` +
        `${formatCount(overlap.known)} share at least ${percent(KNOWN_SHARE)} of their runs of ${RUN_TOKENS} trained tokens with it: ` +
        'the held-out loss will look better than it is',
    };
  } else if (overlap.touched > 0) {
    yield {
      level: 'note',
      code: 'OVERLAP_SLIGHT',
      message: `${some(overlap.touched, 'held-out sample')} share a run of ${RUN_TOKENS} trained tokens with the training data`,
    };
  }
}
