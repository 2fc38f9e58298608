import { formatBytes, safeText, table } from '../../common/text.ts';
import { screenLines } from '../node-screen/lines.ts';
import type { ViewLines } from './lines.ts';
import type { NodeFacts } from './state.ts';

/** Number of rows for which `screenLines` makes the lines of a node. It is large, because the user can scroll. */
const ALL_ROWS = 200;

/**
 * Returns the lines that the node shows in its own terminal. Leaves out the last two lines, which name the keys and the
 * log file of that terminal.
 */
export function nodeOverview({ status, timeLeft, homeFlag }: NodeFacts, width: number): ViewLines {
  const state = { status, timeLeft, download: null, warnings: [], news: [], logFile: '', homeFlag };
  const lines = screenLines(state, { columns: width + 1, rows: ALL_ROWS });
  return { fixed: [], list: lines.slice(0, -2).map((text) => ({ text })) };
}

/** Returns a table of the newest updates of the node. */
export function nodeRounds({ status }: NodeFacts): ViewLines {
  const names = new Map(
    status.jobs.flatMap(({ job }) => (job === null ? [] : [[job.job, job.name] as const])),
  );
  const rows = table([
    ['round', 'job', 'size', 'answer', 'outcome'],
    ...status.updates.map(({ round, job, bytes, code, detail, outcome }) => [
      String(round),
      safeText(names.get(job) ?? job.slice(0, 12), { maxCharacters: 24 }),
      formatBytes(bytes),
      `${code ?? 'awaited'}${detail === '' ? '' : `: ${safeText(detail)}`}`,
      outcome ?? '',
    ]),
  ]);
  const list = rows.slice(1).map((text) => ({ text }));
  return {
    fixed: [{ text: rows[0]!, tone: 'title' }],
    list: list.length === 0 ? [{ text: 'this node has sent no update yet' }] : list,
  };
}
