/** Text for terminals: sanitised strings, readable numbers, small charts and tables. */

/** Maximum length of an untrusted string that a terminal or a log line shows, in characters. */
const SHOWN_CHARACTERS = 300;

// The first group, C0 and C1 controls, moves the cursor or starts escape sequences. The other characters, bidirectional
// and invisible format characters, make text look different from its bytes (CVE-2021-42574).
const UNSAFE = /[\p{Cc}\u2028\u2029\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/gu;

/**
 * Sanitises an untrusted string for a terminal. Control and direction characters become "·", so that the string can
 * neither send escape sequences nor forge a line. Tabs and newlines become spaces. With `multiline`, which callers set
 * for generated text, tabs and newlines are kept.
 */
export function safeText(
  text: string,
  {
    maxCharacters = SHOWN_CHARACTERS,
    multiline = false,
  }: { maxCharacters?: number; multiline?: boolean } = {},
): string {
  const spaced = multiline ? text.replace(/\r\n?/g, '\n') : text.replace(/[\t\r\n]+/g, ' ');
  const safe = spaced.replace(UNSAFE, (c) => (multiline && (c === '\n' || c === '\t') ? c : '·'));
  return safe.length > maxCharacters ? `${safe.slice(0, maxCharacters - 1)}…` : safe;
}

/**
 * Writes a value as JSON on one line. Characters that {@link safeText} would replace become escapes of the form
 * `\u001b`.
 */
export function safeJson(value: object): string {
  // JSON.stringify escapes only the C0 controls, so the other unsafe characters are escaped here.
  return JSON.stringify(value).replace(UNSAFE, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** Formats bytes in decimal units, as is usual for network speeds: "0 B", "999 B", "1.2 kB", "34 MB". */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  // From 999.5 on, rounding would give "1000 kB" instead of "1.0 MB".
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit > 0 && value < 9.95 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** Formats seconds: "0.4 s", "18 s", "2 min 14 s", "1 h 52 min", "3 d 4 h". */
export function formatDuration(seconds: number): string {
  if (seconds < 9.95) return `${Math.max(0, seconds).toFixed(1)} s`;
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

/** Formats a count with thousands separators: "1,234,567". The locale is fixed, so output is the same everywhere. */
export function formatCount(count: number): string {
  return Math.round(count).toLocaleString('en-US');
}

/** Formats a count with its noun: "1 sample", "1,200 samples". */
export function countOf(count: number, noun: string): string {
  return `${formatCount(count)} ${noun}${count === 1 ? '' : 's'}`;
}

/** Formats a share of 1 as a percentage, with decimals if it is small: "0.05 %", "1.5 %", "42 %". */
export function formatPercent(share: number): string {
  const value = 100 * share;
  return `${value > 0 && value < 9.95 ? value.toFixed(value < 0.095 ? 2 : 1) : Math.round(value)} %`;
}

/** Formats progress in whole percent: "42 %". A total of 0 stands for an unknown total, and gives "0 %". */
export function percentDone(done: number, total: number): string {
  return `${total > 0 ? Math.floor((100 * done) / total) : 0} %`;
}

/**
 * Formats the position of a job: "round 21 of 40". Rounds without a checkpoint (null rounds) have numbers too, so after the
 * first of them the number of the round can exceed the total: "round 43 (38 of 40 done)".
 */
export function roundText(
  round: number,
  { rounds, roundsDone }: { rounds: number; roundsDone: number },
): string {
  const hadNullRounds = round > roundsDone + 1 || round > rounds;
  return hadNullRounds ? `round ${round} (${roundsDone} of ${rounds} done)` : `round ${round} of ${rounds}`;
}

/** Formats the seconds until the deadline of a round: "at most 15 s left in the round". */
export function roundLeftText(seconds: number): string {
  return `at most ${formatDuration(seconds)} left in the round`;
}

/** Returns the phase of a job; "stopped" if its operator or a sweep ended it before it had all checkpoints. */
export function phaseText<Phase extends string>({
  phase,
  rounds,
  roundsDone,
}: {
  phase: Phase;
  rounds: number;
  roundsDone: number;
}): Phase | 'stopped' {
  return phase === 'finished' && roundsDone < rounds ? 'stopped' : phase;
}

/**
 * Returns a text that says that a job is paused, and which of its rounds has ended last: "paused after round 21".
 * @param next the first round that has not ended
 * @param by who has paused the job. @default the text does not say
 */
export function pauseText(next: number, by?: string): string {
  const paused = by === undefined ? 'paused' : `paused by ${by}`;
  return next <= 1 ? `${paused} before round 1` : `${paused} after round ${next - 1}`;
}

/** Formats a loss with four decimals; "–" if there is none. */
export function formatLoss(loss: number | null | undefined): string {
  return loss === null || loss === undefined ? '–' : loss.toFixed(4);
}

/** Rounds a figure to five significant digits, as tables for people show it. Whole numbers stay as they are. */
export function rounded(figure: number): number {
  return Number.isSafeInteger(figure) ? figure : Number(figure.toPrecision(5));
}

/**
 * Formats a figure of a task for people, with at most six significant digits and four decimals: "0.8600", "8738.84". Very
 * large and very small figures, such as perplexities of long answers, have an exponent: "1.047e72".
 */
export function formatFigure(figure: number): string {
  const size = Math.abs(figure);
  if (!Number.isFinite(figure)) return String(figure);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return figure.toExponential(3).replace('e+', 'e');
  return figure.toFixed(Math.min(4, 5 - Math.floor(Math.log10(Math.max(size, 1)))));
}

/** Returns the name of a figure for people: without the name of lm-eval's filter that changes nothing, `none`. */
export function figureName(name: string): string {
  return name.replace(/,none$/, '');
}

/** Formats a change with its sign: "−0.0123", "+0.0040". */
export function formatChange(change: number, digits = 4): string {
  return `${change < 0 ? '−' : '+'}${Math.abs(change).toFixed(digits)}`;
}

/** Formats changed settings: "rounds.count 40 → 60, rounds.minPeers 2 → 3". */
export function changeText(
  changes: readonly { readonly key: string; readonly before: number; readonly after: number }[],
): string {
  return changes.map(({ key, before, after }) => `${key} ${before} → ${after}`).join(', ');
}

const BARS = '▁▂▃▄▅▆▇█';

/**
 * Draws a column chart of losses for a terminal:
 *
 *     4.60 ┤█
 *     4.40 ┤█ █
 *     4.20 ┤█ █ █ █
 *           0 1 2 3
 */
export function lossPicture(points: readonly { label: string; loss: number }[], height = 8): string[] {
  if (points.length === 0) return [];
  const losses = points.map((p) => p.loss);
  const high = Math.max(...losses);
  // The axis starts a little below the lowest loss, so that its column is visible.
  const low = Math.min(...losses) - Math.max((high - Math.min(...losses)) * 0.15, 1e-4);
  const width = Math.max(...points.map((p) => p.label.length)) + 1;
  const eighths = losses.map((loss) => Math.max(1, Math.round(((loss - low) / (high - low)) * height * 8)));
  const axis = (row: number) => (low + ((row + 1) / height) * (high - low)).toFixed(2).padStart(7);
  const lines: string[] = [];
  for (let row = height - 1; row >= 0; row--) {
    const cells = eighths.map((filled) => {
      const inRow = Math.min(8, Math.max(0, filled - row * 8));
      return (inRow === 0 ? '' : BARS[inRow - 1]!.repeat(Math.max(1, width - 1))).padEnd(width);
    });
    lines.push(`${axis(row)} ┤${cells.join('')}`.trimEnd());
  }
  lines.push(`${' '.repeat(9)}${points.map((p) => p.label.padEnd(width)).join('')}`.trimEnd());
  return lines;
}

const GAP = '  ';
const NUMERIC = /^[−+–\d.,%]*( ?(B|kB|MB|GB|TB|s))?$/;

/**
 * Lays out rows as a table with two spaces between columns. The first row is the heading. Numbers are right-aligned.
 * @param options `columns`: maximum length of a line. Cells of a wider table break at spaces. A table whose words do not
 *   fit stays wider. @default unlimited
 */
export function table(
  rows: readonly (readonly string[])[],
  { columns: most = Number.POSITIVE_INFINITY }: { columns?: number | undefined } = {},
): string[] {
  const columns = Array.from({ length: Math.max(0, ...rows.map((row) => row.length)) }, (_, i) => {
    const [head = '', ...cells] = rows.map((row) => row[i] ?? '');
    const isNumeric = cells.every((cell) => NUMERIC.test(cell));
    // A number with its unit never breaks.
    const words = [...wordsOf(head), ...(isNumeric ? cells : cells.flatMap(wordsOf))];
    const lengthOf = (texts: readonly string[]): number => Math.max(0, ...texts.map(({ length }) => length));
    return { isNumeric, width: lengthOf([head, ...cells]), least: lengthOf(words) };
  });
  const excess = (): number =>
    columns.reduce((sum, { width }) => sum + width + GAP.length, -GAP.length) - most;
  while (excess() > 0) {
    const widest = columns.toSorted((a, b) => b.width - b.least - (a.width - a.least))[0];
    if (widest === undefined || widest.width === widest.least) break;
    widest.width--;
  }
  return rows.flatMap((row) => {
    const cells = columns.map(({ width }, i) => brokenCell(row[i] ?? '', width));
    const height = Math.max(1, ...cells.map(({ length }) => length));
    return Array.from({ length: height }, (_, line) =>
      columns
        .map(({ isNumeric, width }, i) => {
          const text = cells[i]![line] ?? '';
          return isNumeric ? text.padStart(width) : text.padEnd(width);
        })
        .join(GAP)
        .trimEnd(),
    );
  });
}

/** Splits a text at its spaces. The spaces at its beginning belong to the first word. */
function wordsOf(text: string): string[] {
  return text.match(/^ *\S+|\S+/g) ?? [];
}

/** Breaks the text of a cell at spaces into lines of at most `width` characters. A longer word stays whole. */
function brokenCell(text: string, width: number): string[] {
  const lines: string[] = [];
  let rest = text;
  while (rest.length > width) {
    const before = rest.lastIndexOf(' ', width);
    const at = before > rest.search(/\S/) ? before : rest.indexOf(' ', width);
    if (at < 0) break;
    lines.push(rest.slice(0, at));
    rest = rest.slice(at + 1);
  }
  return [...lines, rest];
}

/** Returns a word for a command that a user copies into a shell: in quotation marks if the shell would split or change it. */
export function shellWord(word: string): string {
  return /^[\w./:\\+@-]+$/.test(word) ? word : `"${word.replace(/["$`\\]/g, '\\$&')}"`;
}
