import { countOf, formatBytes, formatCount, formatPercent, safeText, table } from '../../common/text.ts';
import type { RowSummary } from '../../index.ts';
import type { Finding, Inspection, Level, ShownSample } from '../../lora/data/inspect/inspection.ts';
import type { LengthSummary } from '../../lora/data/inspect/lengths.ts';
import { OVERLAP_TOKENS } from '../../lora/data/inspect/overlap.ts';
import type { ShownToken } from '../../lora/data/inspect/token-texts.ts';
import type { Output } from '../context.ts';
import { brokenLine, columnsOf } from '../print.ts';
import { paint, type Style } from './paint.ts';

/** Maximum number of tokens of a sample that a terminal shows. The HTML report and --json show more. */
const SHOWN_TOKENS = 400;
const BAR_COLUMNS = 40;
/** Width of the labels of the summary, in columns. */
const LABEL = 14;
/** Width of the mark before a finding, in columns. */
const MARK = 6;

export interface TerminalOptions {
  /** Whether to show one token per line. Otherwise, samples are shown as running text. */
  tokens: boolean;
}

/** Writes an inspection as lines for a terminal. */
export function inspectionLines(
  inspection: Inspection,
  { tokens }: TerminalOptions,
  output: Output,
): string[] {
  return [
    ...inspection.samples.flatMap((sample) => [...sampleLines(sample, { tokens }, output), '']),
    ...[
      ...summaryLines(inspection),
      ...lengthLines(inspection.lengths),
      ...repeatedLines(inspection),
    ].flatMap((line) => brokenLine(line, { columns: columnsOf(output), indent: LABEL })),
    '',
    ...findingLines(inspection.findings, output),
  ];
}

function sampleLines(sample: ShownSample, { tokens }: TerminalOptions, output: Output): string[] {
  const { origin, kind, trained } = sample;
  const shown = sample.tokens.slice(0, SHOWN_TOKENS);
  const more = sample.tokens.length - shown.length + sample.more;
  const all = sample.tokens.length + sample.more;
  const heading = `${safeText(origin.file)}:${origin.row}  ${kind}, ${formatCount(all)} tokens, ${formatCount(trained)} trained`;
  return [
    paint(output, 'bold', heading),
    ...(tokens
      ? shown.map((token, i) => tokenLine(token, i, output))
      : runningText(shown, output).split('\n')),
    ...(more > 0 ? [`… ${formatCount(more)} more tokens`] : []),
  ];
}

function tokenLine({ id, text, trained }: ShownToken, index: number, output: Output): string {
  const line = `${String(index).padStart(6)} ${String(id).padStart(7)}  ${trained ? 'trained' : '·      '}  ${JSON.stringify(safeText(text, { multiline: true }))}`;
  return paint(output, trained ? 'green' : 'dim', line);
}

/**
 * Writes tokens as running text. With colours, trained tokens are green and all others are dim. Every second trained
 * token is underlined, to show where a token ends. Without colours, trained tokens are enclosed in 【 】, and a bar
 * separates tokens.
 */
function runningText(tokens: readonly ShownToken[], output: Output): string {
  if (output.color) {
    return tokens
      .map(({ text, trained }, i) => {
        const visible = marked(text);
        // A style that spans a line end would colour the rest of the terminal line.
        return visible
          .split('\n')
          .map((part) => (part === '' ? '' : paint(output, style(trained, i), part)))
          .join('\n');
      })
      .join('');
  }
  let text = '';
  for (const [i, token] of tokens.entries()) {
    const before = tokens[i - 1];
    if (token.trained !== (before?.trained ?? false)) text += token.trained ? '【' : '】';
    else if (before !== undefined) text += '│';
    text += marked(token.text);
  }
  return tokens.at(-1)?.trained ? `${text}】` : text;
}

function style(trained: boolean, index: number): Style {
  if (!trained) return 'dim';
  return index % 2 === 0 ? 'green' : ['green', 'underline'];
}

/** Makes text safe for a terminal and its line ends visible. */
function marked(text: string): string {
  return safeText(text, { multiline: true, maxCharacters: Number.MAX_SAFE_INTEGER }).replaceAll('\n', '⏎\n');
}

function summaryLines(inspection: Inspection): string[] {
  const { template, kinds, read, heldOutRead, tally, fill, share, sequenceLength } = inspection;
  const counts = Object.entries(kinds).map(([kind, count]) => `${formatCount(count)} ${kind}`);
  return [
    `template      ${template === null ? 'none' : safeText(template)}`,
    ...readLines('records read', read),
    ...(heldOutRead === null ? [] : readLines('held-out data', heldOutRead)),
    `samples       ${formatCount(tally.samples)}${counts.length > 0 ? ` (${counts.join(', ')})` : ''}`,
    ...untrainedLines(tally),
    `tokens        ${formatCount(tally.sampleTokens)} in samples, ${formatCount(tally.rowTokens)} in packed rows, ` +
      `${formatCount(tally.trainedTokens)} of them trained` +
      (tally.rowTokens > 0 ? ` (${formatPercent(tally.trainedTokens / tally.rowTokens)})` : ''),
    `too long      ${formatCount(tally.truncated)} cut, ${formatCount(tally.split)} split, ${formatCount(tally.dropped)} left out`,
    `packed rows   ${formatCount(tally.rows)} of ${formatCount(sequenceLength)} tokens` +
      (fill === null ? '' : `, ${formatPercent(fill)} full`),
    `a job         each of ${countOf(share.nodes, 'node')} trains ${countOf(share.rows, 'row')} ` +
      `(${countOf(share.trainedTokens, 'trained token')}) in one pass; the data has ${countOf(share.shards, 'shard')} (${formatBytes(share.bytes)})`,
  ];
}

function readLines(name: string, { rows, bad, reasons }: RowSummary): string[] {
  return [
    `${name.padEnd(13)} ${formatCount(rows)}, ${formatCount(bad)} of them unusable`,
    ...reasons.flatMap(({ code, count, rows }) => [
      `              ${formatCount(count)} ${code}${count > rows.length ? `, the first ${rows.length}:` : ':'}`,
      ...rows.map(
        ({ origin, reason }) => `                ${safeText(`${origin.file}:${origin.row}: ${reason}`)}`,
      ),
    ]),
  ];
}

function untrainedLines({ untrained, untrainedRows }: Inspection['tally']): string[] {
  if (untrained === 0) return [];
  const which = untrained > untrainedRows.length ? `, the first ${untrainedRows.length}:` : ':';
  return [
    `              ${formatCount(untrained)} without a trained token${which}`,
    ...untrainedRows.map(
      ({ origin, reason }) => `                ${safeText(`${origin.file}:${origin.row}: ${reason}`)}`,
    ),
  ];
}

function lengthLines(lengths: LengthSummary | null): string[] {
  if (lengths === null) return [];
  const { histogram, shortest, median, p95, longest, mean } = lengths;
  const most = Math.max(...histogram.map(({ samples }) => samples));
  const rows = histogram.map(({ from, to, samples }) => [
    `${formatCount(from)}–${formatCount(to)}`,
    formatCount(samples),
    '█'.repeat(Math.round((samples / most) * BAR_COLUMNS)) || (samples > 0 ? '▏' : ''),
  ]);
  return [
    '',
    `length        shortest ${formatCount(shortest)}, median ${formatCount(median)}, mean ${formatCount(mean)}, ` +
      `95 % up to ${formatCount(p95)}, longest ${formatCount(longest)}`,
    ...table([['tokens', 'samples', ''], ...rows]),
  ];
}

function repeatedLines({ duplicates, overlap }: Inspection): string[] {
  const place = ({ file, row }: { file: string; row: number }): string => `${safeText(file)}:${row}`;
  const lines = duplicates.named.map(
    ({ origin, first }) => `duplicate     ${place(origin)} repeats ${place(first)}`,
  );
  const others = duplicates.count - duplicates.named.length;
  if (others > 0) lines.push(`              and ${formatCount(others)} more`);
  if (overlap !== null) {
    lines.push(
      `held out      ${countOf(overlap.heldOut, 'sample')}: ${formatCount(overlap.equal)} equal to a training sample; of the ${countOf(overlap.withSequences, 'sample')} with ${OVERLAP_TOKENS} trained tokens in a row, ` +
        `${formatCount(overlap.touched)} ${overlap.touched === 1 ? 'has' : 'have'} such a sequence in common with the training data` +
        (overlap.sampledOneIn > 1 ? ` (only one sequence in ${overlap.sampledOneIn} was compared)` : ''),
      ...overlap.named.map(
        ({ origin, share }) =>
          `              ${place(origin)} shares ${formatPercent(share)} of its sequences of ${OVERLAP_TOKENS} trained tokens with the training data`,
      ),
    );
  }
  return lines.length === 0 ? [] : ['', ...lines];
}

const MARKS: Record<Level, { mark: string; style: 'red' | 'yellow' | 'cyan' }> = {
  error: { mark: 'error', style: 'red' },
  warning: { mark: 'warn', style: 'yellow' },
  note: { mark: 'note', style: 'cyan' },
};

function findingLines(findings: readonly Finding[], output: Output): string[] {
  if (findings.length === 0) return [paint(output, 'green', 'ok    no problems found')];
  return findings.flatMap(({ level, message, next }) => {
    const { mark, style } = MARKS[level];
    const [first, ...others] = [
      `${' '.repeat(MARK)}${safeText(message, { maxCharacters: 1000 })}`,
      ...(next === null ? [] : [`${' '.repeat(MARK)}${safeText(next)}`]),
    ].flatMap((line) => brokenLine(line, { columns: columnsOf(output), indent: MARK }));
    return [`${paint(output, style, mark.padEnd(MARK - 1))} ${first!.slice(MARK)}`, ...others];
  });
}
