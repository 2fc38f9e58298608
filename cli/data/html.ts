/** Writes an inspection as one HTML file. It contains no script, loads nothing, and escapes all text from the data. */

import { access, constants, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { commonError } from '../../common/common-errors.ts';
import { nullIfMissing } from '../../common/files/file-system.ts';
import { escapeHtml, generatorTag, reportPage } from '../../common/html.ts';
import { countOf, formatBytes, formatCount, formatPercent } from '../../common/text.ts';
import type { RowSummary } from '../../index.ts';
import type { Finding, Inspection, ShownSample } from '../../lora/data/inspect/inspection.ts';
import type { LengthSummary } from '../../lora/data/inspect/lengths.ts';
import { OVERLAP_TOKENS } from '../../lora/data/inspect/overlap.ts';

/**
 * The command that writes the report. The report contains this text in a tag, by which a later run recognises the file.
 */
const GENERATOR = 'lora-swarm data inspect';
/** Number of bytes at the start of a file that are searched for the tag of GENERATOR. */
const HEAD_BYTES = 512;

/**
 * Checks, before the work starts, that a report can be written: its folder exists, and the file is new or an earlier
 * report.
 * @throws OUTPUT_EXISTS if the file is something else; the system's error if it cannot be opened
 */
export async function checkReport(file: string): Promise<void> {
  const handle = await open(file, 'r+').catch(nullIfMissing);
  if (handle === null) {
    await access(dirname(file), constants.W_OK);
    return;
  }
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(HEAD_BYTES), 0, HEAD_BYTES, 0);
    if (bytesRead === 0 || buffer.toString('utf8', 0, bytesRead).includes(generatorTag(GENERATOR))) return;
  } finally {
    await handle.close();
  }
  throw commonError(
    'OUTPUT_EXISTS',
    `${file} exists and is not a report of this command`,
    { file },
    { next: 'choose another name for the report' },
  );
}

export interface HtmlOptions {
  title: string;
  /** Names and values shown under the title: model, data, settings. */
  facts: readonly (readonly [string, string])[];
}

export function inspectionPage(inspection: Inspection, { title, facts }: HtmlOptions): string {
  const content = `${findingList(inspection.findings)}
${numberCards(inspection)}
${lengthSection(inspection.lengths)}
${badRows('Records that cannot be used', inspection.read)}
${badRows('Held-out records that cannot be used', inspection.heldOutRead)}
${untrainedRows(inspection)}
${repeated(inspection)}
${sampleSection(inspection.samples)}`;
  return reportPage({ title, generator: GENERATOR, style: STYLE, facts, content });
}

function findingList(findings: readonly Finding[]): string {
  if (findings.length === 0) return '<ul class="findings"><li class="ok">No problems found.</li></ul>';
  const items = findings.map(
    ({ level, code, message, next }) =>
      `<li class="${level}"><b>${escapeHtml(code)}</b> ${escapeHtml(message)}` +
      `${next === null ? '' : `<small>${escapeHtml(next)}</small>`}</li>`,
  );
  return `<ul class="findings">${items.join('')}</ul>`;
}

function numberCards({ tally, read, fill, share, kinds, sequenceLength }: Inspection): string {
  const cards: [string, string, string][] = [
    ['samples', formatCount(tally.samples), Object.keys(kinds).join(', ')],
    ['tokens', formatCount(tally.sampleTokens), `${formatCount(tally.trainedTokens)} trained`],
    [
      'packed rows',
      formatCount(tally.rows),
      `of ${formatCount(sequenceLength)} tokens${fill === null ? '' : `, ${formatPercent(fill)} full`}`,
    ],
    [
      'too long',
      formatCount(tally.truncated + tally.split + tally.dropped),
      `${formatCount(tally.truncated)} cut, ${formatCount(tally.split)} split, ${formatCount(tally.dropped)} left out`,
    ],
    ['unusable records', formatCount(read.bad), `of ${formatCount(read.rows)} read`],
    [
      `for each of ${countOf(share.nodes, 'node')}`,
      countOf(share.rows, 'row'),
      `in one pass; ${formatBytes(share.bytes)} in all`,
    ],
  ];
  return `<div class="cards">${cards.map(([name, value, more]) => `<div><span>${escapeHtml(name)}</span><b>${escapeHtml(value)}</b><small>${escapeHtml(more)}</small></div>`).join('')}</div>`;
}

function lengthSection(lengths: LengthSummary | null): string {
  if (lengths === null) return '';
  const { histogram, shortest, median, mean, p95, longest } = lengths;
  const most = Math.max(...histogram.map(({ samples }) => samples));
  const bars = histogram.map(
    ({ from, to, samples }) =>
      `<tr><th>${formatCount(from)}–${formatCount(to)}</th><td>${formatCount(samples)}</td>` +
      `<td class="bar">${samples === 0 ? '' : `<i style="width:${((100 * samples) / most).toFixed(1)}%"></i>`}</td></tr>`,
  );
  const text = `shortest ${formatCount(shortest)}, median ${formatCount(median)}, mean ${formatCount(mean)}, 95 % up to ${formatCount(p95)}, longest ${formatCount(longest)}`;
  return `<h2>Length in tokens</h2><p>${text}</p><table class="lengths">${bars.join('')}</table>`;
}

function badRows(title: string, read: RowSummary | null): string {
  if (read === null || read.reasons.length === 0) return '';
  const rows = read.reasons.flatMap(({ code, count, rows }) =>
    rows.map(
      ({ origin, reason }) =>
        `<tr><td>${escapeHtml(code)}</td><td>${formatCount(count)}</td><td>${place(origin)}</td><td>${escapeHtml(reason)}</td></tr>`,
    ),
  );
  return `<h2>${title}</h2><table><tr><th>code</th><th>rows with this code</th><th>row</th><th>reason</th></tr>${rows.join('')}</table>`;
}

function untrainedRows({ tally }: Inspection): string {
  if (tally.untrained === 0) return '';
  const rows = tally.untrainedRows.map(
    ({ origin, reason }) => `<tr><td>${place(origin)}</td><td>${escapeHtml(reason)}</td></tr>`,
  );
  return `<h2>Samples without a trained token</h2><p>${formatCount(tally.untrained)} were left out. The table has the first ${rows.length}.</p><table><tr><th>row</th><th>reason</th></tr>${rows.join('')}</table>`;
}

function repeated({ duplicates, overlap }: Inspection): string {
  const parts: string[] = [];
  if (duplicates.named.length > 0) {
    const items = duplicates.named.map(
      ({ origin, first }) => `<li>${place(origin)} repeats ${place(first)}</li>`,
    );
    parts.push(
      `<h2>Duplicates</h2><p>Samples that repeat an earlier sample: ${formatCount(duplicates.count)}</p><ul>${items.join('')}</ul>`,
    );
  }
  if (overlap !== null) {
    const items = overlap.named.map(
      ({ origin, share }) =>
        `<li>${place(origin)} shares ${formatPercent(share)} of its sequences of ${OVERLAP_TOKENS} trained tokens with the training data</li>`,
    );
    parts.push(
      `<h2>Held-out data</h2><p>${countOf(overlap.heldOut, 'sample')}: ${formatCount(overlap.equal)} equal to a training sample, ` +
        `${formatCount(overlap.touched)} with a sequence of ${OVERLAP_TOKENS} trained tokens that also occurs in the training data</p><ul>${items.join('')}</ul>`,
    );
  }
  return parts.join('');
}

function sampleSection(samples: readonly ShownSample[]): string {
  if (samples.length === 0) return '';
  return `<h2>Samples</h2>
<p class="legend"><span class="t">trained</span> <span class="u">not trained</span> each box is a token; point at a box to see the id of its token</p>
${samples.map(sample).join('\n')}`;
}

function sample({ origin, kind, tokens, more, trained }: ShownSample): string {
  const boxes = tokens.map(
    ({ id, text, trained: yes }) =>
      `<span class="${yes ? 't' : 'u'}" title="${id}">${escapeHtml(text).replaceAll('\n', '⏎\n')}</span>`,
  );
  const rest = more > 0 ? `<p>… ${formatCount(more)} more tokens</p>` : '';
  return `<details open><summary>${place(origin)} · ${escapeHtml(kind)} · ${formatCount(tokens.length + more)} tokens, ${formatCount(trained)} trained</summary><pre>${boxes.join('')}</pre>${rest}</details>`;
}

function place({ file, row }: { file: string; row: number }): string {
  return `<code>${escapeHtml(file)}:${row}</code>`;
}

const STYLE = `
:root { color-scheme: light dark; --ink: #1c2330; --paper: #fbfbf9; --line: #d9dbe0; --soft: #6b7280; --good: #1a7f4b; --goodbg: #d9f2e4; --bad: #b42318; --warn: #b7791f; --note: #2563a8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ec; --paper: #14171c; --line: #313741; --soft: #9aa3b0; --good: #6ee0a8; --goodbg: #143828; --bad: #ff8a80; --warn: #f0c36a; --note: #8cc0ff; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .25rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; color: var(--soft); margin: 0 0 1rem; } .facts dd { margin: 0; overflow-wrap: anywhere; }
.findings { list-style: none; padding: 0; } .findings li { border-left: 4px solid var(--note); padding: .3rem .8rem; margin: .3rem 0; background: color-mix(in srgb, var(--line) 35%, transparent); }
.findings small { display: block; color: var(--soft); } .findings .error { border-color: var(--bad); } .findings .warning { border-color: var(--warn); } .findings .ok { border-color: var(--good); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .6rem; margin: 1.2rem 0; }
.cards div { border: 1px solid var(--line); border-radius: 8px; padding: .6rem .8rem; display: flex; flex-direction: column; } .cards span, .cards small { color: var(--soft); } .cards b { font-size: 1.3rem; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .15rem .8rem .15rem 0; font-weight: normal; } .lengths { width: 100%; } .lengths td:nth-child(2) { text-align: right; } .lengths th { color: var(--soft); white-space: nowrap; }
.bar { width: 70%; } .bar i { display: block; height: .8rem; background: var(--note); border-radius: 2px; min-width: 1px; }
details { border: 1px solid var(--line); border-radius: 8px; margin: .8rem 0; padding: .5rem .8rem; } summary { cursor: pointer; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.9; margin: .6rem 0 0; }
.t, .u { border: 1px solid var(--line); border-radius: 3px; padding: 1px 0; } .t { background: var(--goodbg); color: var(--good); border-color: var(--good); } .u { color: var(--soft); }
.legend { color: var(--soft); } .legend span { padding: 1px 6px; }
`;
