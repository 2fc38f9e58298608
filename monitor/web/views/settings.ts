import { html } from 'htm/preact';
import type { JobDetail } from '../../../coordinator/api/types.ts';
import { formatDate } from '../format.ts';

/** The signed manifest of a job. */
export function SettingsPart({ job }: { job: JobDetail }) {
  return html`<section>
    <h2>Settings</h2>
    <p>Created ${formatDate(job.createdAt)}. Digest of the job: <code class="long">${job.job}</code></p>
    <div class="scroll" role="region" aria-label="Manifest of the job" tabindex="0">
      <pre>${JSON.stringify(job.manifest, null, 2)}</pre>
    </div>
  </section>`;
}
