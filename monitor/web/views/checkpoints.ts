import { html } from 'htm/preact';
import { useState } from 'preact/hooks';
import { figureName, formatCount, formatFigure, formatLoss } from '../../../common/text.ts';
import type { CheckpointVersion, CheckpointView, JobDetail } from '../../../protocol/api/coordinator.ts';
import { jobPath, post } from '../api.ts';
import { formatDate } from '../format.ts';
import { usePolled } from '../live.ts';
import { Confirm } from '../parts/confirm.ts';
import { Failure, Loading } from '../parts/notice.ts';
import { type Column, Table } from '../parts/table.ts';

/** Time between two requests for the checkpoints, in milliseconds. A round seldom takes less. */
const POLL_MS = 10_000;
/** Number of checkpoints on one page of the table. The coordinator answers with at most this number. */
const PAGE_CHECKPOINTS = 50;

/** A table of a job's checkpoints. The table marks the best checkpoint, and has a button to roll back. */
export function CheckpointsPart({ job, onChange }: { job: JobDetail; onChange(): void }) {
  // A round for each older page that the user has opened. The page has only checkpoints from before this round.
  const [starts, setStarts] = useState<readonly number[]>([]);
  const before = starts.at(-1);
  const query = `limit=${PAGE_CHECKPOINTS}${before === undefined ? '' : `&before=${before}`}`;
  const { data, error, refresh } = usePolled<{ checkpoints: CheckpointView[] }>(
    `${jobPath(job.job)}/checkpoints?${query}`,
    POLL_MS,
  );
  const versions = usePolled<{ versions: CheckpointVersion[] | null }>(
    `${jobPath(job.job)}/versions`,
    POLL_MS,
  );
  const done = (): void => {
    refresh();
    versions.refresh();
    onChange();
  };
  const oldest = data?.checkpoints.at(-1)?.round ?? 0;
  const isLast = data !== null && (data.checkpoints.length < PAGE_CHECKPOINTS || oldest === 0);
  return html`<section>
    <h2>Checkpoints</h2>
    <${Failure} error=${error ?? versions.error} />
    <p>To export a checkpoint, run <code>lora-swarm checkpoint export ${job.name} FOLDER</code>.</p>
    ${
      data === null
        ? !error && html`<${Loading} what="the checkpoints" />`
        : html`<${Table}
            caption="Checkpoints"
            columns=${columnsOf(job, versions.data?.versions ?? null, done)}
            rows=${data.checkpoints}
            id=${({ digest }: CheckpointView) => digest}
            empty="There is no checkpoint yet."
          />`
    }
    ${
      (starts.length > 0 || !isLast) &&
      html`<nav class="pages" aria-label="Pages of the checkpoints">
        <button type="button" disabled=${starts.length === 0} onClick=${() => setStarts(starts.slice(0, -1))}>
          Newer
        </button>
        <button type="button" disabled=${data === null || isLast} onClick=${() => setStarts([...starts, oldest])}>
          Older
        </button>
        ${
          job.best !== null &&
          html`<button type="button" onClick=${() => setStarts([job.best!.round + 1])}>
            Best: round ${job.best.round}
          </button>`
        }
      </nav>`
    }
  </section>`;
}

function columnsOf(
  job: JobDetail,
  versions: readonly CheckpointVersion[] | null,
  onDone: () => void,
): readonly Column<CheckpointView>[] {
  const versionOf = ({ digest }: CheckpointView): CheckpointVersion | undefined =>
    versions?.find(({ checkpoint }) => checkpoint === digest);
  return [
    {
      title: 'Round',
      cell: ({ round, isBest }) => html`${round}${isBest && html` <strong>best</strong>`}`,
      by: ({ round }) => round,
      numeric: true,
    },
    {
      title: 'Held-out loss',
      cell: ({ checkpoint }) => formatLoss(checkpoint.metrics.heldOutLoss),
      by: ({ checkpoint }) => checkpoint.metrics.heldOutLoss ?? Number.POSITIVE_INFINITY,
      numeric: true,
    },
    ...(job.tasks === null
      ? []
      : [
          {
            title: figureName(job.tasks.metric ?? 'Tasks'),
            cell: ({ tasks }: CheckpointView) => (tasks === null ? '–' : taskCell(tasks)),
            by: ({ tasks }: CheckpointView) => tasks?.value ?? Number.NEGATIVE_INFINITY,
            numeric: true,
          },
        ]),
    {
      title: 'Nodes',
      cell: nodesOf,
      by: nodesOf,
      numeric: true,
    },
    {
      title: 'Tokens',
      cell: ({ checkpoint }) => formatCount(checkpoint.metrics.tokens),
      by: ({ checkpoint }) => checkpoint.metrics.tokens,
      numeric: true,
    },
    {
      title: 'Time',
      cell: ({ checkpoint }) => formatDate(checkpoint.createdAt),
      by: ({ checkpoint }) => checkpoint.createdAt,
    },
    {
      title: 'Lineage',
      cell: ({ digest, parent, restores }) =>
        restores === null
          ? html`<code>${digest.slice(0, 8)}</code>${parent && html` from <code>${parent.slice(0, 8)}</code>`}`
          : html`restores round ${restores}`,
    },
    { title: 'Weights', cell: ({ kept }) => (kept ? 'kept' : 'deleted') },
    ...(versions === null
      ? []
      : [{ title: 'Version and tags', cell: (view: CheckpointView) => versionCell(versionOf(view)) }]),
    {
      title: 'Actions',
      cell: (view) =>
        html`<div class="actions">
          ${versions !== null && html`<${TagButton} job=${job} view=${view} version=${versionOf(view)} onDone=${onDone} />`}
          ${
            view.kept &&
            view.round !== job.checkpoint.round &&
            html`<${Confirm}
              label="Roll back"
              danger
              effect=${`The adapter of round ${view.round} becomes the newest checkpoint again. Later checkpoints stay in the history, but nodes train from this one.`}
              inputLabel="Reason, which the nodes see"
              act=${(reason: string) => post(`${jobPath(job.job)}/rollback`, { to: view.round, reason })}
              onDone=${onDone}
            />`
          }
        </div>`,
    },
  ];
}

/** Returns the number of nodes whose updates were merged. A node with two updates, one of them late, counts once. */
function nodesOf({ checkpoint }: CheckpointView): number {
  return new Set(checkpoint.contributors.map(({ peer }) => peer)).size;
}

/** Returns the version of a checkpoint in the registry of adapters, and its tags. */
function versionCell(version: CheckpointVersion | undefined) {
  return (
    version &&
    html`<span>${version.label}</span> ${version.tags.map((tag) => html`<span class="tag">${tag}</span> `)}`
  );
}

interface TagButtonProps {
  readonly job: JobDetail;
  readonly view: CheckpointView;
  /** The version of the checkpoint in the registry of adapters. */
  readonly version: CheckpointVersion | undefined;
  onDone(): void;
}

/** A button that moves a tag to a checkpoint. */
function TagButton({ job, view: { round, kept }, version, onDone }: TagButtonProps) {
  const published =
    version === undefined
      ? ' The checkpoint becomes a new version, which "latest" names too unless a later checkpoint is a version.'
      : '';
  return (
    (version !== undefined || kept) &&
    html`<${Confirm}
      label="Tag"
      inputLabel="Name of the tag"
      effect=${`The tag names the checkpoint of round ${round} from now on. If it names another version of ${job.name}, it moves. Servers that use the tag switch to this checkpoint.${published}`}
      act=${(tag: string) => post(`${jobPath(job.job)}/checkpoints/${round}/tag`, { tag, reason: 'moved on the page' })}
      onDone=${onDone}
    />`
  );
}

/**
 * Returns a cell with the value of the chosen metric. The cell shows all figures when the pointer rests on
 * it.
 */
function taskCell({ figures, value, reason }: NonNullable<CheckpointView['tasks']>) {
  if (figures === null) return html`<span title=${reason}>failed</span>`;
  const all = Object.entries(figures).map(([name, figure]) => `${figureName(name)} ${formatFigure(figure)}`);
  return html`<span title=${all.join('\n')}>${value === null ? `${all.length} figures` : formatFigure(value)}</span>`;
}
