import { html } from 'htm/preact';
import { changeText } from '../../../common/text.ts';
import type { JobDetail } from '../../../protocol/api/coordinator.ts';
import { jobPath, post } from '../api.ts';
import { formatDate } from '../format.ts';
import { changeableSettings } from '../parts/changeable-settings.ts';
import { Confirm } from '../parts/confirm.ts';
import { type Column, Table } from '../parts/table.ts';

type Change = JobDetail['settingsChanges'][number];

const CHANGES: readonly Column<Change>[] = [
  { title: 'From round', cell: ({ fromRound }) => fromRound, numeric: true },
  {
    title: 'Change',
    cell: ({ changes }) => changeText(changes),
  },
  { title: 'Reason', cell: ({ reason }) => reason },
  { title: 'Time', cell: ({ at }) => formatDate(at) },
];

/** The settings of a job: those that can change, their changes so far, and the signed manifest. */
export function SettingsPart({ job, onChange }: { job: JobDetail; onChange(): void }) {
  const isOver = job.phase === 'finished';
  return html`<section>
    <h2>Settings</h2>
    <dl class="facts">
      ${changeableSettings(job).map(
        ({ key, label, value, effect }) => html`<dt>${label}</dt>
          <dd>
            ${value}${' '}
            ${
              !isOver &&
              html`<${Confirm}
                label=${`Change ${label.toLowerCase()}`}
                effect=${effect}
                inputLabel="New value"
                secondLabel="Reason"
                act=${(text: string, reason: string) =>
                  post(`${jobPath(job.job)}/settings`, { changes: { [key]: Number(text) }, reason })}
                onDone=${onChange}
              />`
            }
          </dd>`,
      )}
    </dl>
    <${Table}
      caption="Signed changes so far"
      columns=${CHANGES}
      rows=${job.settingsChanges}
      id=${({ sequence }: Change) => String(sequence)}
      empty="There are no signed changes yet."
    />
    <h2>Manifest</h2>
    <p>Created ${formatDate(job.createdAt)}. Digest of the job: <code class="long">${job.job}</code></p>
    <div class="scroll" role="region" aria-label="Manifest of the job" tabindex="0">
      <pre>${JSON.stringify(job.manifest, null, 2)}</pre>
    </div>
  </section>`;
}
