import { formatBytes, formatDuration, safeText } from '../../common/text.ts';
import { columnsOf, cut } from '../node-screen/columns.ts';
import { timeOfDay } from '../print.ts';
import { eventLines, overviewLines, peersLines, roundsLines } from './coordinator-views.ts';
import type { FrameLine, ViewLines } from './lines.ts';
import { nodeOverview, nodeRounds } from './node-views.ts';
import { type TopState, viewsOf } from './state.ts';

export interface FrameSize {
  readonly columns: number;
  readonly rows: number;
}

/** Minimum number of rows for a whole frame. A smaller frame has no list and no line with keys. */
const LEAST_ROWS = 4;

/**
 * Returns the lines of a frame, at most `rows` lines of at most `columns` columns. Pure. Makes each line
 * safe for a terminal, because strangers choose names and reasons.
 */
export function frameLines(state: TopState, { columns, rows }: FrameSize): FrameLine[] {
  // A line of the full width would wrap in some terminals.
  const width = Math.max(1, columns - 1);
  const top = [{ text: titleOf(state, width), tone: 'title' } as const, ...failureLines(state)];
  const { fixed, list } = viewLines(state, { width, rows: rows - top.length - 1 });
  const head = [...top, ...fixed];
  const keys: FrameLine = { text: keysOf(state), tone: 'dim' };
  const room = Math.max(0, rows - head.length - 1);
  const shown = visible(list, state.choice.scroll, room);
  const blank = Math.max(0, room - shown.length);
  const all =
    rows < LEAST_ROWS
      ? head
      : [...head.slice(0, rows - 1), ...shown, ...Array(blank).fill({ text: '' }), keys];
  return all.slice(0, rows).map(({ text, ...line }) => ({
    ...line,
    text: cut(safeText(text, { maxCharacters: Number.POSITIVE_INFINITY }), width).trimEnd(),
  }));
}

/**
 * Returns the part of a list that fits into the rows. If some lines do not fit, the last row says how many
 * lines are above and below the visible part.
 */
function visible(list: readonly FrameLine[], scroll: number, rows: number): readonly FrameLine[] {
  if (list.length <= rows || rows < 2) return list.slice(0, rows);
  const from = Math.min(scroll, list.length - rows + 1);
  const below = list.length - from - (rows - 1);
  const where = [
    ...(from > 0 ? [`${from} more above`] : []),
    ...(below > 0 ? [`${below} more below`] : []),
  ].join(', ');
  return [...list.slice(from, from + rows - 1), { text: where, tone: 'dim' }];
}

function viewLines({ facts, choice, now }: TopState, size: { width: number; rows: number }): ViewLines {
  const { width } = size;
  if (facts.role === 'node') {
    return choice.view === 'rounds' ? nodeRounds(facts) : nodeOverview(facts, width);
  }
  switch (choice.view) {
    case 'overview':
      return overviewLines(facts, size);
    case 'peers':
      return peersLines(facts);
    case 'rounds':
      return roundsLines(facts, width);
    case 'events':
      return eventLines(facts, now);
  }
}

function titleOf({ facts, now }: TopState, width: number): string {
  const { status } = facts;
  const name = 'name' in status ? status.name : `…${status.peerId.slice(-8)}`;
  const { sent, received } = status.traffic;
  const left = `${status.role} ${safeText(name)}  v${status.version}  up ${formatDuration(status.uptimeSeconds)}`;
  const time = timeOfDay(now);
  const traffic = `sent ${formatBytes(sent)}, received ${formatBytes(received)}`;
  const right = [`${traffic}  ${time}`, time, ''].find(
    (text) => columnsOf(left) + 2 + columnsOf(text) <= width,
  );
  if (right === undefined || right === '') return left;
  return `${left}${' '.repeat(width - columnsOf(left) - columnsOf(right))}${right}`;
}

function failureLines({ failure, facts }: TopState): FrameLine[] {
  if (failure === null) return [];
  return [{ text: `the ${facts.role} does not answer, so these facts are old: ${failure}`, tone: 'red' }];
}

function keysOf({ facts, choice }: TopState): string {
  const views = viewsOf(facts.role).map((view) => (view === choice.view ? `[${view}]` : view));
  const jobs = facts.role === 'coordinator' && facts.status.jobs.length > 1 ? ['j next job'] : [];
  return `first letter: ${views.join(' ')}   ${[...jobs, '↑↓ scroll', 'q quit'].join('   ')}`;
}
