import { packageVersion } from '../../common/package.ts';
import { countOf, formatCount, formatLoss, formatPercent, phaseText } from '../../common/text.ts';
import { bestText } from '../../monitor/best-text.ts';
import { shortPeer } from '../../protocol/ids.ts';
import { type Html, html } from './html.ts';
import { lossCurve } from './loss-curve.ts';
import type { ContributorRow, Joining, PublicJob } from './public-job.ts';

/** The file that `npm pack` makes, and that the operator of a coordinator gives to volunteers. */
const PACKAGE_FILE = `lora-swarm-${packageVersion()}.tgz`;

/** Phases of a job in the words of the page. */
const PHASES: Readonly<Record<PublicJob['phase'] | 'stopped', string>> = {
  queued: 'waits for the end of another job',
  waiting: 'waits for nodes',
  training: 'trains',
  collecting: 'waits for the last updates of its round',
  validating: 'merges the updates of its round',
  committing: 'saves a checkpoint',
  paused: 'is paused',
  finished: 'is finished',
  stopped: 'was stopped by its operator',
};

/** The page that lists the jobs. */
export function listPage(jobs: readonly { name: string; roundsDone: number; rounds: number }[]): string {
  const items = jobs.map(
    ({ name, roundsDone, rounds }) =>
      html`<li><a href="${pathOf(name)}">${name}</a>, ${formatCount(roundsDone)} of ${countOf(rounds, 'round')}</li>`,
  );
  return documentOf(
    'Jobs',
    html`<h1>Jobs</h1>
      ${jobs.length === 0 ? html`<p>The coordinator shows no job here at present.</p>` : html`<ul>${items}</ul>`}`,
  );
}

/** The page of a job. @param contact how to ask for an invite; null if the operator gave no contact */
export function jobPage(job: PublicJob, contact: string | null): string {
  const { name, roundsDone, rounds, baseLoss, loss, contributors, contributorCount } = job;
  const best = bestText(job);
  return documentOf(
    name,
    html`<h1>${name}</h1>
      <p>
        Machines of volunteers train this adapter for a language model together. The job ${PHASES[phaseText(job)]}.
      </p>
      <div class="progress">
        <progress aria-label="Progress of the job" max="${Math.max(1, rounds)}" value="${Math.min(roundsDone, rounds)}"></progress>
        <span>${formatCount(roundsDone)} of ${countOf(rounds, 'round')}</span>
      </div>
      <dl class="facts">
        <dt>Held-out loss</dt>
        <dd>${formatLoss(loss)}${baseLoss === null ? '' : ` (initial adapter ${formatLoss(baseLoss)})`}</dd>
        ${best === null ? '' : html`<dt>Best checkpoint</dt><dd>${best}</dd>`}
        <dt>Nodes now</dt>
        <dd>${formatCount(job.nodes)}</dd>
        <dt>Speed in the last round</dt>
        <dd>${formatCount(job.tokensPerSecond)} tokens/s</dd>
        <dt>Coordinator</dt>
        <dd><code class="long">${job.coordinator}</code></dd>
        <dt>Job</dt>
        <dd><code class="long">${job.job}</code></dd>
      </dl>
      <h2>Loss</h2>
      ${lossCurve(job.curve)}
      <h2>How to join</h2>
      ${joinText(job.joining, contact)}
      <h2>Contributors</h2>
      ${contributorTable(name, contributors, contributorCount)}`,
  );
}

function joinText(joining: Joining, contact: string | null): Html {
  if (joining.kind === 'over') return html`<p>The job is over and takes no more nodes.</p>`;
  const ask = (what: string): string =>
    contact === null ? `Ask its operator ${what}.` : `Ask its operator ${what}: ${contact}`;
  if (joining.kind === 'open') {
    return html`<p>
        Everyone may join. Everyone can also read this job: its base, data, checkpoints and updates, and the peer ids, losses
        and scores of its nodes.
      </p>
      <p>
        Your machine needs Node.js and npm, and the file <code>${PACKAGE_FILE}</code>, because lora-swarm is not on the npm
        registry. ${ask('for the file')}
      </p>
      <p>Run these commands in an empty folder that has the file. If lora-swarm is installed there, leave out the first one.</p>
      <pre class="scroll" tabindex="0" role="region" aria-label="Commands to join"><code>npm install ./${PACKAGE_FILE}</code>
<code>npx lora-swarm node ${joining.invite}</code></pre>`;
  }
  return joining.kind === 'invite'
    ? html`<p>A node needs an invite to join this job. ${ask('for one')}</p>`
    : html`<p>Only nodes that the operator has listed can join this job. ${ask('to list yours')}</p>`;
}

function contributorTable(name: string, contributors: readonly ContributorRow[], count: number): Html {
  if (count === 0) return html`<p class="quiet">No update has been merged yet.</p>`;
  const more =
    count > contributors.length ? `, the first ${contributors.length} of ${formatCount(count)}` : '';
  const rows = contributors.map(
    ({ peer, name: node, updates, tokens, share }, i) => html`<tr>
      <td class="number">${i + 1}</td>
      <td>${node ?? 'no longer a member'} <span class="quiet">${shortPeer(peer)}</span></td>
      <td class="number">${formatCount(updates)}</td>
      <td class="number">${formatCount(tokens)}</td>
      <td class="number">${formatPercent(share)}</td>
      <td><a href="${pathOf(name)}/receipts/${peer}.json" download aria-label="Receipts of ${node ?? shortPeer(peer)}">receipts</a></td>
    </tr>`,
  );
  return html`<p>
      The coordinator signs a receipt for each update. To check the newest receipts of a node, download them and run
      <code>npx lora-swarm verify FILE</code>.
    </p>
    <div class="scroll" role="region" aria-label="Contributors" tabindex="0">
      <table>
        <caption>Merged updates of each node${more}</caption>
        <thead>
          <tr>
            <th scope="col" class="number">place</th>
            <th scope="col">node</th>
            <th scope="col" class="number">updates</th>
            <th scope="col" class="number">tokens</th>
            <th scope="col" class="number">share of tokens</th>
            <th scope="col">signed</th>
          </tr>
        </thead>
        <tbody>${rows}</tbody>
      </table>
    </div>`;
}

/** The page that a failed request gets. It gives the reason. */
export function failurePage(text: string): string {
  return documentOf(text, html`<h1>${text}</h1>`);
}

function pathOf(name: string): string {
  return `/jobs/${encodeURIComponent(name)}`;
}

function documentOf(title: string, content: Html): string {
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${title} · lora-swarm</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/style.css">
</head>
<body>
<header><a href="/">lora-swarm</a></header>
<main>
${content}
</main>
</body>
</html>
`.text;
}
