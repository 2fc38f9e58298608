import { html } from 'htm/preact';
import { changeText } from '../../../common/text.ts';
import type { JobDetail } from '../../../coordinator/api/types.ts';
import { jobPath, post } from '../api.ts';
import { formatDate } from '../format.ts';
import { Confirm } from '../parts/confirm.ts';
import { type Column, Table } from '../parts/table.ts';

type Change = JobDetail['settingsChanges'][number];

/** Settings that can change while a job runs, with their keys in the job file. */
const CHANGEABLE = [
  { key: 'training.learningRate', label: 'Learning rate', field: 'learningRate' },
  { key: 'rounds.count', label: 'Rounds', field: 'count' },
  { key: 'rounds.minPeers', label: 'Minimum number of nodes', field: 'minPeers' },
  { key: 'rounds.maxSeconds', label: 'Maximum length of a round in seconds', field: 'maxSeconds' },
] as const;

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
      ${CHANGEABLE.map(
        ({ key, label, field }) => html`<dt>${label}</dt>
          <dd>
            ${job.settings[field]}${' '}
            ${
              !isOver &&
              html`<${Confirm}
                label=${`Change ${label.toLowerCase()}`}
                effect="The nodes use the new value from the next round on. The change is signed, and stays in the history of the job."
                inputLabel="New value"
                act=${(text: string) =>
                  post(`${jobPath(job.job)}/settings`, { changes: { [key]: Number(text) }, reason: '' })}
                onDone=${onChange}
              />`
            }
          </dd>`,
      )}
    </dl>
    <${Table}
      caption="Changes so far"
      columns=${CHANGES}
      rows=${job.settingsChanges}
      id=${({ sequence }: Change) => String(sequence)}
      empty="No setting has changed since the job was created."
    />
    <h2>Manifest</h2>
    <p>Created ${formatDate(job.createdAt)}. Digest of the job: <code class="long">${job.job}</code></p>
    <div class="scroll" role="region" aria-label="Manifest of the job" tabindex="0">
      <pre>${JSON.stringify(job.manifest, null, 2)}</pre>
    </div>
  </section>`;
}
