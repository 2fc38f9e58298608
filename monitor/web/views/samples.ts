import { html } from 'htm/preact';
import { useState } from 'preact/hooks';
import { formatDuration } from '../../../common/text.ts';
import type { JobDetail } from '../../../protocol/api/coordinator.ts';
import type { SamplesView } from '../../../protocol/api/job-parts.ts';
import type { SampleText } from '../../../protocol/api/samples.ts';
import { jobPath } from '../api.ts';
import { formatDate } from '../format.ts';
import { usePolled } from '../live.ts';
import { Failure, Loading } from '../parts/notice.ts';

/** Time between two requests for samples, in milliseconds. Samples take seconds to minutes to generate. */
const POLL_MS = 10_000;

/** Texts that the base and a checkpoint generated from the same prompts, side by side. */
export function SamplesPart({ job }: { job: JobDetail }) {
  const [round, setRound] = useState('');
  const path = `${jobPath(job.job)}/samples${round === '' ? '' : `?round=${round}`}`;
  const { data, error } = usePolled<SamplesView>(path, POLL_MS);
  if (data === null)
    return error ? html`<${Failure} error=${error} />` : html`<${Loading} what="the samples" />`;
  const { hasPrompts, rounds, result } = data;
  return html`<section><h2>Samples</h2>
    <${Failure} error=${error} />
    ${
      !hasPrompts &&
      html`<p class="quiet">
        The job has no prompts. The key <code>samples</code> of a job file gives prompts, which base and checkpoints continue.
      </p>`
    }
    ${hasPrompts && rounds.length === 0 && html`<p class="quiet">No checkpoint has been sampled yet.</p>`}
    ${
      rounds.length > 0 &&
      html`<label
        >Checkpoint
        <select value=${round} onChange=${(event: Event) => setRound((event.target as HTMLSelectElement).value)}>
          <option value="">newest</option>
          ${rounds.toReversed().map((one) => html`<option value=${one}>round ${one}</option>`)}
        </select></label
      >`
    }
    ${result !== null && html`<p class="quiet">Round ${result.round}, ${formatDate(result.at)}, generated in ${formatDuration(result.seconds)}</p>`}
    ${result !== null && result.texts === null && html`<p class="failure">${result.reason}</p>`}
    ${result?.texts?.map((text) => html`<${Sample} ...${text} />`)}</section>`;
}

function Sample({ prompt, isHeldOut, before, after }: SampleText) {
  return html`<article class="sample">
    <h3>${isHeldOut ? 'Beginning of a held-out row' : 'Prompt'}</h3>
    <blockquote>${prompt}</blockquote>
    <div class="pair">
      <div>
        <h4>Before: the base</h4>
        <blockquote>${before}</blockquote>
      </div>
      <div>
        <h4>After: the checkpoint</h4>
        <blockquote>${after}</blockquote>
      </div>
    </div>
  </article>`;
}
