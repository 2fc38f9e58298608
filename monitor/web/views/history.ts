import { html } from 'htm/preact';
import { useMemo } from 'preact/hooks';
import { formatBytes, formatCount, formatLoss } from '../../../common/text.ts';
import type { JobEvent } from '../../../protocol/api/job-events.ts';
import type { JobTasksView } from '../../../protocol/api/job-parts.ts';
import { Chart } from '../parts/chart.ts';
import { Loading } from '../parts/notice.ts';
import { TaskChart } from './task-chart.ts';

type CheckpointEvent = Extract<JobEvent, { type: 'checkpoint' }>;

/** Charts of all rounds of a job: losses, figures of tasks, speed and size of updates. */
export function HistoryCharts({
  history,
  tasks,
}: {
  history: readonly JobEvent[];
  tasks: JobTasksView | null;
}) {
  // Drawing thousands of rounds takes long, so the charts change only with the history.
  return useMemo(() => chartsFor(history, tasks), [history, tasks?.metric]);
}

function chartsFor(history: readonly JobEvent[], tasks: JobTasksView | null) {
  const { x, heldOut, train, speed, bytes, nulls } = seriesOf(history);
  if (history.length === 0) return html`<${Loading} what="the charts" />`;
  return html`<section>
    <h2>Rounds</h2>
    ${x.length === 0 && html`<p class="quiet">The first round has not ended yet.</p>`}
    ${nulls > 0 && html`<p>${formatCount(nulls)} ${nulls === 1 ? 'round' : 'rounds'} ended without a checkpoint.</p>`}
    <div class="charts">
      <${Chart}
        title="Loss per token"
        xLabel="round"
        x=${x}
        lines=${[
          { label: 'held-out loss', colour: '--blue', values: heldOut },
          { label: 'training loss', colour: '--orange', values: train, dashed: true },
        ]}
        format=${formatLoss}
      />
      ${tasks !== null && html`<${TaskChart} history=${history} tasks=${tasks} />`}
      <${Chart}
        title="Training speed of all nodes"
        xLabel="round"
        x=${x}
        lines=${[{ label: 'tokens/s', colour: '--blue', values: speed }]}
        format=${formatCount}
      />
      <${Chart}
        title="Mean size of an update"
        xLabel="round"
        x=${x}
        lines=${[{ label: 'bytes', colour: '--blue', values: bytes }]}
        format=${formatBytes}
        unit="B"
      />
    </div>
  </section>`;
}

function seriesOf(history: readonly JobEvent[]) {
  const rounds = history.filter((event): event is CheckpointEvent => event.type === 'checkpoint');
  return {
    x: rounds.map(({ round }) => round),
    heldOut: rounds.map(({ heldOutLoss }) => heldOutLoss),
    train: rounds.map(({ trainLoss }) => trainLoss),
    speed: rounds.map(({ tokensPerSecond }) => tokensPerSecond),
    bytes: rounds.map(({ updateBytes, updates }) => (updates > 0 ? updateBytes / updates : null)),
    nulls: history.filter(({ type }) => type === 'null-round').length,
  };
}
