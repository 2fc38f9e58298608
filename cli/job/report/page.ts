/** The report of a job as one HTML page. It has no script, loads nothing, and escapes all text of jobs and nodes. */
import { escapeHtml, reportPage } from '../../../common/html.ts';
import {
  changeText,
  countOf,
  figureName,
  formatBytes,
  formatChange,
  formatCount,
  formatFigure,
  formatLoss,
  formatPercent,
  phaseText,
} from '../../../common/text.ts';
import { curvePicture } from '../../../lora/evaluate/report/curve-picture.ts';
import { bestText } from '../../../monitor/best-text.ts';
import { ordersText } from '../../../monitor/pending-orders.ts';
import { nodeName } from '../../views/events.ts';
import type { JobReport } from './facts.ts';
import { settingRows } from './settings.ts';
import { STYLE } from './style.ts';

/** Maximum number of rows that a table shows: its newest rows, or the nodes with the most tokens. */
const MAX_ROWS = 200;

export function jobPage(report: JobReport): string {
  const content = `${curve(report)}
${checkpointTable(report)}
${taskTable(report)}
${nodeTable(report)}
${incidents(report)}
${samples(report)}
${settings(report)}
${verification(report)}
<p class="soft">Written by lora-swarm ${escapeHtml(report.version)} at ${time(report.at)}.</p>`;
  return reportPage({
    title: `Job ${report.job.name}`,
    generator: 'lora-swarm job report',
    style: STYLE,
    facts: summary(report),
    content,
  });
}

function summary({ job, checkpoints, nodes }: JobReport): [string, string][] {
  const { manifest, baseLoss, heldOutLoss } = job;
  const tokens = nodes.reduce((sum, node) => sum + node.tokens, 0);
  const bytes = nodes.reduce((sum, node) => sum + node.bytes, 0);
  const chosen = checkpoints.find(({ isBest }) => isBest);
  const reason = job.reason === '' ? '' : `: ${job.reason}`;
  const pending = ordersText(job);
  const change =
    baseLoss === null || heldOutLoss === null
      ? ''
      : ` (${formatChange(heldOutLoss - baseLoss)} compared with the initial adapter)`;
  const best = bestText(job);
  const bestAndDigest =
    best === null ? 'none was measured yet' : `${best}${chosen === undefined ? '' : `, ${chosen.digest}`}`;
  return [
    ['state', `${phaseText(job)}${reason}${pending === '' ? '' : `; ${pending}`}`],
    ['progress', `${job.roundsDone} of ${countOf(job.rounds, 'checkpoint')}`],
    ['base', `${manifest.base.name}, ${formatCount(manifest.base.parameters)} parameters`],
    ['adapter', `rank ${manifest.lora.rank}, ${formatCount(manifest.adapter.parameters)} parameters`],
    ['data', `${countOf(manifest.data.rows, 'row')}, ${formatCount(manifest.data.tokens)} tokens`],
    ['initial adapter', `held-out loss ${formatLoss(baseLoss)} nats per token`],
    ['newest loss', `${formatLoss(heldOutLoss)}${change}`],
    ['best checkpoint', bestAndDigest],
    [
      'work',
      `${formatCount(tokens)} tokens by ${countOf(nodes.length, 'node')}, ${formatBytes(bytes)} of updates`,
    ],
    ['created', time(job.createdAt)],
  ];
}

function curve({ checkpoints, job }: JobReport): string {
  const points = (of: (report: JobReport['checkpoints'][number]) => number | null) =>
    checkpoints.flatMap((view) => {
      const loss = of(view);
      return loss === null ? [] : [{ step: view.round, loss }];
    });
  const heldOut = points(({ checkpoint }) => checkpoint.metrics.heldOutLoss);
  if (job.baseLoss !== null && heldOut[0]?.step !== 0) heldOut.unshift({ step: 0, loss: job.baseLoss });
  const training = points(({ checkpoint }) => checkpoint.metrics.trainLoss);
  if (heldOut.length < 2)
    return '<h2>Loss</h2><p class="soft">The curve begins with the first checkpoint.</p>';
  const legend =
    '<p><span class="training">training</span>, <span class="held-out">held out</span>; nats per token</p>';
  return `<h2>Loss</h2>${legend}${curvePicture({ training, heldOut }, 'round')}`;
}

function checkpointTable({ checkpoints }: JobReport): string {
  const rows = checkpoints
    .toReversed()
    .map(({ round, restores, digest, isBest, checkpoint }) => [
      restores === null ? String(round) : `${round} (restores ${restores})`,
      formatLoss(checkpoint.metrics.heldOutLoss),
      String(new Set(checkpoint.contributors.map(({ peer }) => peer)).size),
      formatCount(checkpoint.metrics.tokens),
      formatBytes(checkpoint.metrics.updateBytes),
      digest.slice(0, 12),
      isBest ? 'best' : '',
    ]);
  const head = ['round', 'held-out loss', 'nodes', 'tokens', 'update bytes', 'digest', 'note'];
  return `<h2>Checkpoints</h2>${tableOf(head, rows)}`;
}

function taskTable({ checkpoints, job }: JobReport): string {
  const evaluated = checkpoints.filter(({ tasks }) => tasks !== null);
  if (evaluated.length === 0) return '';
  const figures = evaluated.flatMap(({ tasks }) => Object.keys(tasks?.figures ?? {}));
  const names = [...new Set(figures)].filter((name) => !name.includes('_stderr,'));
  const rows = evaluated
    .toReversed()
    .map(({ round, isBest, tasks }) => [
      String(round),
      ...(tasks?.figures == null
        ? [`failed: ${tasks!.reason}`]
        : names.map((name) => figureCell(tasks.figures![name]))),
      isBest ? 'best' : '',
    ]);
  const metric = job.tasks?.metric ?? null;
  const note =
    metric === null ? '' : `<p>${escapeHtml(figureName(metric))} decides which checkpoint is the best.</p>`;
  return `<h2>Tasks</h2>${note}${tableOf(['round', ...names.map(figureName), 'note'], rows)}`;
}

function figureCell(figure: number | undefined): string {
  return figure === undefined ? '–' : formatFigure(figure);
}

function nodeTable({ nodes }: JobReport): string {
  if (nodes.length === 0) return '<h2>Contributors</h2><p class="soft">No node has sent an update yet.</p>';
  const all = nodes.reduce((sum, { tokens }) => sum + tokens, 0);
  const rows = nodes.map((node) => [
    nodeName(node),
    formatCount(node.updates),
    formatCount(node.tokens),
    all === 0 ? '–' : formatPercent(node.tokens / all),
    formatBytes(node.bytes),
    formatCount(node.refused),
    formatCount(node.unmerged),
  ]);
  const head = [
    'node',
    'updates in checkpoints',
    'tokens',
    'share',
    'bytes sent',
    'refused updates',
    'not merged for other reasons',
  ];
  return `<h2>Contributors</h2>${tableOf(head, rows)}`;
}

function incidents({ refusals, incidents: list }: JobReport): string {
  const codes = Object.entries(refusals).map(([code, count]) => `${code}: ${formatCount(count)}`);
  const refused =
    codes.length === 0
      ? '<p>No update was refused.</p>'
      : `<p>Updates that were refused or left out of a merge, by their code: ${escapeHtml(codes.join(', '))}.</p>`;
  const rows = list.toReversed().map(({ at, text }) => [time(at), text]);
  return `<h2>Refused, rolled back, paused</h2>${refused}${rows.length === 0 ? '<p>No roll-back, null round or pause.</p>' : tableOf(['time', 'event'], rows)}`;
}

/** Shows the samples of the operator's prompts. Held-out rows may be private, so their beginnings are left out. */
function samples({ samples: result }: JobReport): string {
  if (result === null || result.texts === null) return '';
  const own = result.texts.filter(({ isHeldOut }) => !isHeldOut);
  if (own.length === 0) return '';
  const items = own.map(
    ({ prompt, before, after }) =>
      `<tr><td><pre>${escapeHtml(prompt)}</pre></td><td><pre>${escapeHtml(before)}</pre></td><td><pre>${escapeHtml(after)}</pre></td></tr>`,
  );
  const head = ['prompt', 'the base continues', 'the checkpoint continues'];
  return `<h2>Samples of round ${result.round}</h2><table><thead>${headOf(head)}</thead><tbody>${items.join('')}</tbody></table>`;
}

function settings({ job }: JobReport): string {
  const changes = job.settingsChanges.map(({ at, fromRound, changes: list, reason, digest }) => [
    time(at),
    String(fromRound),
    changeText(list),
    reason,
    digest.slice(0, 12),
  ]);
  const history =
    changes.length === 0
      ? '<p>No setting has changed since the creation of the job.</p>'
      : `<h3>Changes</h3>${tableOf(['time', 'from round', 'change', 'reason', 'digest'], changes)}`;
  return `<h2>Settings</h2>${tableOf(['setting', 'value'], settingRows(job))}${history}`;
}

function verification({ job, coordinator, checkpoints }: JobReport): string {
  const { manifest, name } = job;
  const best = checkpoints.find(({ isBest }) => isBest);
  const rows = [
    ['job', job.job],
    ['coordinator', coordinator],
    ['base', manifest.base.digest],
    ['held-out data', manifest.data.heldOut.digest],
    [`newest checkpoint, round ${job.checkpoint.round}`, job.checkpoint.digest],
    ...(best === undefined ? [] : [[`best checkpoint, round ${best.round}`, best.digest]]),
  ];
  const commands = `lora-swarm job bundle ${name} ${name}.bundle    # on the machine of the coordinator
lora-swarm verify ${name}.bundle --job ${job.job} --coordinator ${coordinator}`;
  return `<h2>Verify</h2><p>This report is not signed. The record of the job is, and these commands check it:</p><pre class="commands">${escapeHtml(commands)}</pre>${tableOf(['record', 'digest or peer id'], rows)}`;
}

function tableOf(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const shown = rows.slice(0, MAX_ROWS);
  const body = shown.map(
    (cells) => `<tr>${cells.map((cell) => `<td>${escapeHtml(cell)}</td>`).join('')}</tr>`,
  );
  const rest = rows.length - shown.length;
  const more = rest === 0 ? '' : `<p class="soft">${formatCount(rest)} more are left out.</p>`;
  return `<div class="wide"><table><thead>${headOf(head)}</thead><tbody>${body.join('')}</tbody></table></div>${more}`;
}

function headOf(names: readonly string[]): string {
  return `<tr>${names.map((name) => `<th scope="col">${escapeHtml(name)}</th>`).join('')}</tr>`;
}

/** Formats a time as "2026-11-28 05:03:12 UTC". */
function time(at: number): string {
  return `${new Date(at).toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}
