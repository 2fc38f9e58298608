/** A report as one HTML page. It has no script, loads nothing, and escapes all text of models and data. */
import { escapeHtml, reportPage } from '../../../common/html.ts';
import type { MetricComparison } from '../compare/compare.ts';
import { nameOf, sentence } from './card.ts';
import { curvePicture } from './curve-picture.ts';
import { comparisonCells, comparisonHead, FIGURE_HEAD, figureCells } from './figures.ts';
import type { Report, ShownDocument } from './report.ts';

export function pageOf(report: Report): string {
  const { model, against, comparison, lossCurve, date, version } = report;
  const title = `Evaluation of ${nameOf(model)}`;
  const facts = [
    ['base', model.base],
    ['adapter', model.adapter ?? 'none'],
    ...(against === null ? [] : [['compared with', nameOf(against.model)] as const]),
    ['date', date],
    ['program', `lora-swarm ${version}`],
  ] as const;
  const content = `${comparison === null ? '' : `<p class="summary">${escapeHtml(sentence(comparison.summary))}</p>`}
${comparison === null ? figureTable(report) : comparisonTable(comparison.metrics, nameOf(against!.model))}
${lossCurve === null ? '' : `<h2>Loss of the training run</h2><p><span class="training">training</span>, <span class="held-out">held out</span>; nats per token</p>${curvePicture(lossCurve)}`}
${documentSection(report)}`;
  return reportPage({ title, generator: 'lora-swarm evaluate', style: STYLE, facts, content });
}

function figureTable({ figures }: Report): string {
  const rows = figureCells(figures).map((cells) => row(cells));
  return `<h2>Figures</h2>${tableOf(FIGURE_HEAD, rows)}`;
}

function comparisonTable(metrics: readonly MetricComparison[], against: string): string {
  const rows = metrics.map((one) => row(comparisonCells(one), one.verdict));
  const head = comparisonHead(against);
  return `<h2>Figures</h2>${tableOf(head, rows)}<p class="soft">Each change is computed from the differences on the same documents. A change is called <b>noise</b> if its p-value, corrected for the number of metrics in the table (Holm), is above 0.05. The documents then do not show which model is better.</p>`;
}

function tableOf(head: readonly string[], rows: readonly string[]): string {
  return `<table><thead><tr>${head.map((name) => `<th>${escapeHtml(name)}</th>`).join('')}</tr></thead><tbody>${rows.join('')}</tbody></table>`;
}

function row(cells: readonly string[], kind = ''): string {
  const mark = kind === '' ? '' : ` class="${kind}"`;
  return `<tr${mark}>${cells.map((cell) => `<td>${escapeHtml(cell)}</td>`).join('')}</tr>`;
}

function documentSection({ documents, model, against }: Report): string {
  const byTask = Object.entries(Object.groupBy(documents, ({ task }) => task));
  const head = [
    'document',
    'prompt',
    'correct',
    nameOf(model),
    ...(against === null ? [] : [nameOf(against.model)]),
  ];
  return byTask
    .map(
      ([task, list = []]) =>
        `<h2>Documents of ${escapeHtml(task)}</h2>${tableOf(head, list.map(documentRow))}`,
    )
    .join('');
}

function documentRow({ id, prompt, correct, answer, against, values }: ShownDocument): string {
  const answers = [answer, against].flatMap((text, i) =>
    text === null ? [] : [answerCell(text, values[i] ?? null)],
  );
  return `<tr><td>${id}</td><td><pre>${escapeHtml(prompt)}</pre></td><td><pre>${escapeHtml(correct)}</pre></td>${answers.join('')}</tr>`;
}

function answerCell(text: string, value: number | null): string {
  const kind = value === 1 ? 'right' : value === 0 ? 'wrong' : '';
  return `<td class="${kind}"><pre>${escapeHtml(text)}</pre></td>`;
}

const STYLE = `
:root { color-scheme: light dark; --ink: #1c2330; --paper: #fbfbf9; --line: #d9dbe0; --soft: #5d6573; --good: #1a7f4b; --bad: #b42318; --note: #2563a8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ec; --paper: #14171c; --line: #313741; --soft: #9aa3b0; --good: #6ee0a8; --bad: #ff8a80; --note: #8cc0ff; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; } .soft, dt { color: var(--soft); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; } dd { margin: 0; overflow-wrap: anywhere; } .summary { font-size: 1.15rem; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0; border-top: 1px solid var(--line); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; font-size: .9em; max-width: 32rem; }
.better td:last-child, .right { color: var(--good); } .worse td:last-child, .wrong { color: var(--bad); } .noise td:last-child { color: var(--soft); }
.right pre::before { content: "✓ "; } .wrong pre::before { content: "✗ "; }
svg { max-width: 40rem; width: 100%; } svg text { font-size: 12px; fill: var(--soft); } .axis { stroke: var(--line); fill: none; }
polyline { fill: none; stroke-width: 1.5; } polyline.training { stroke: var(--soft); } polyline.held-out { stroke: var(--note); } circle { fill: var(--note); }
span.training { color: var(--soft); } span.held-out { color: var(--note); }
`;
