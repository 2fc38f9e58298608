import { Gauge, type Registry } from '@prometheus-io/client';
import { type JobMetrics, WORK_SECONDS } from './job-metrics.ts';

/** Records merges, gates, refusals and joins of a coordinator. `job` is the name of the job. */
export interface CoordinatorMeter {
  merge(job: string, measured: { seconds: number; bytes: number }): void;
  gate(
    job: string,
    measured: { seconds: number; verdict: string; merged: number; leftOut: number; outliers: number },
  ): void;
  scoring(
    job: string,
    measured: { seconds: number; scored: number; unscored: number; harmful: number; disbelieved: number },
  ): void;
  audit(job: string, measured: { verdict: string; rows: number; seconds: number; share: number }): void;
  refusal(job: string, code: string): void;
  join(job: string, code: string): void;
  unrecorded(job: string, what: string): void;
}

/** Creates the metrics of the work that a coordinator measures itself. */
export function workMeter(metrics: JobMetrics, registry: Registry): CoordinatorMeter {
  const refusals = metrics.counterBy(
    'swarm_update_refusals_total',
    'Updates refused on arrival, by reason code, including refusals that are counted but not recorded.',
    'code',
  );
  const joins = metrics.counterBy(
    'swarm_joins_total',
    'Requests to join, by "ok" or the code of the refusal.',
    'code',
  );
  const unrecorded = metrics.counterBy(
    'swarm_unrecorded_changes_total',
    'Changes of members that were not recorded because there were too many, by kind: description or presence.',
    'what',
  );
  const mergeSeconds = metrics.histogram(
    'swarm_merge_seconds',
    'Time to compute one merge, seconds. The gate may compute several merges for one round.',
    WORK_SECONDS,
  );
  const mergeBytes = metrics.counter(
    'swarm_merge_bytes_total',
    'Payload bytes of the updates that merges were computed from.',
  );
  const mergedUpdates = metrics.counterBy(
    'swarm_merge_updates_total',
    'Updates of accepted merges: merged, left out by the gate, or outliers.',
    'outcome',
  );
  const scoringSeconds = metrics.histogram(
    'swarm_scoring_seconds',
    'Time to score the updates of a closed round, seconds.',
    WORK_SECONDS,
  );
  const scores = metrics.counterBy(
    'swarm_scores_total',
    'Updates of closed rounds: scored, unscored, or harmful and left out.',
    'outcome',
  );
  const withoutWeight = metrics.counter(
    'swarm_disbelieved_updates_total',
    'Updates that had no weight in their merge, because their authors were not believed.',
  );
  const audits = metrics.counterBy(
    'swarm_audits_total',
    'Audits of updates: passed, failed, or dropped without a result.',
    'verdict',
  );
  const auditRows = metrics.counter('swarm_audit_rows_total', 'Rows that audits have trained again.');
  const auditSeconds = metrics.histogram(
    'swarm_audit_seconds',
    'Time to train an interval again, seconds, without the time in which the audit waited.',
    WORK_SECONDS,
  );
  const auditShare = new Gauge({
    name: 'swarm_audit_share',
    help: 'Rows that audits have trained, as a fraction of the rows that the nodes have trained.',
    labelNames: ['job'] as const,
    registers: [registry],
  });
  const gateSeconds = metrics.histogram(
    'swarm_gate_seconds',
    'Time that a closed round spends in the gate, with all merges and evaluations, seconds.',
    WORK_SECONDS,
  );
  const gateVerdicts = metrics.counterBy(
    'swarm_gate_verdicts_total',
    'Gate verdicts: passed, half-rate, quarter-rate, removed, refused or rolled-back.',
    'verdict',
  );
  return {
    merge(name, { seconds, bytes }) {
      mergeSeconds(name, seconds);
      mergeBytes(name, bytes);
    },
    gate(name, { seconds, verdict, merged, leftOut, outliers }) {
      gateSeconds(name, seconds);
      gateVerdicts(name, verdict);
      mergedUpdates(name, 'merged', merged);
      mergedUpdates(name, 'left-out', leftOut);
      mergedUpdates(name, 'outlier', outliers);
    },
    scoring(name, { seconds, scored, unscored, harmful, disbelieved }) {
      scoringSeconds(name, seconds);
      scores(name, 'scored', scored);
      scores(name, 'unscored', unscored);
      scores(name, 'harmful', harmful);
      withoutWeight(name, disbelieved);
    },
    audit(name, { verdict, rows, seconds, share }) {
      audits(name, verdict);
      auditRows(name, rows);
      auditSeconds(name, seconds);
      auditShare.set({ job: name }, share);
    },
    refusal: refusals,
    join: joins,
    unrecorded,
  };
}
