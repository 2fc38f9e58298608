/** Compares the output that a page shows with real output. Figures, digests and times may differ. */

/** The end of a peer id, which begins with "…". */
const PEER = /…[1-9A-HJ-NP-Za-km-z]{6,8}\b/g;

/** Patterns for the parts of a line that differ between two runs of a command, and their replacements, in order. */
const VARIABLE: readonly (readonly [RegExp, string])[] = [
  [PEER, '<id>'],
  // A checkout writes "npx lora-swarm" in its advice, and an installed package "lora-swarm".
  [/\bnpx (?=lora-swarm )/g, ''],
  // A text that a model has generated.
  [/"text":".*$/, '"text":"'],
  [/\d{4}-\d\d-\d\dT[\d:.]+Z/g, '<time>'],
  [/\b[A-Z][a-z]{2} [A-Z][a-z]{2} \d\d? \d\d:\d\d\b/g, '<time>'],
  [/\b[0-9a-f]{8,}\b/g, '<digest>'],
  // The end of a peer id, as the last column of a table.
  [/ {2}[1-9A-HJ-NP-Za-km-z]{6}$/, '  <id>'],
  // Which step is the best depends on the data.
  [/ {2}best so far$| of the best adapter \(step \d+\)$/g, ''],
  [/\d[\d,.]*(?:e[-+]?\d+)?/g, '0'],
  [/\b0 (?:d|h|min) (?=0 (?:h|min|s)\b)/g, ''],
  [/\b0 [kMGT]?i?B\b/g, '0 B'],
  // The widths of columns depend on their cells.
  [/ {2,}/g, '  '],
];

/** Replaces the parts of a line that differ between two runs of its command. */
export function shapeOf(line: string): string {
  return VARIABLE.reduce(
    (text, [pattern, replacement]) => text.replaceAll(new RegExp(pattern, 'g'), replacement),
    line.trimEnd(),
  );
}

export interface Difference {
  /** Line of the page; null if the real output has more lines than the page. */
  readonly shown: string | null;
  /** Line of the real output; null if it has ended. */
  readonly real: string | null;
}

/** A line that a command has really printed. */
export interface RealLine {
  readonly text: string;
  /** Whether a page may leave the line out: notes and progress, which a terminal overwrites. */
  readonly isNote: boolean;
}

/**
 * Returns the first difference between the output of a page and real output; null if there is none. "…" in the page stands
 * for any text. A line of the page that is "…" stands for any lines.
 */
export function firstDifference(shown: readonly string[], real: readonly RealLine[]): Difference | null {
  const lines = real.filter(({ text }) => text.trim() !== '');
  let next = 0;
  let maySkip = false;
  const skips = (end: number): boolean => maySkip || lines.slice(next, end).every(({ isNote }) => isNote);
  const realAt = (index: number): string | null =>
    lines.slice(index).find(({ isNote }) => !isNote)?.text ?? null;
  for (const line of shown.filter((each) => each.trim() !== '')) {
    if (line.trim() === '…') {
      maySkip = true;
      continue;
    }
    const pattern = patternOf(line);
    const found = lines.findIndex(({ text }, i) => i >= next && pattern.test(shapeOf(text)));
    if (found === -1 || !skips(found)) return { shown: line, real: realAt(next) };
    next = found + 1;
    maySkip = false;
  }
  return skips(lines.length) ? null : { shown: null, real: realAt(next) };
}

function patternOf(line: string): RegExp {
  const parts = line
    .replaceAll(PEER, '<id>')
    .split(/ *… */)
    .map((part) => shapeOf(part).replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`);
}
