import { Counter, Gauge, Histogram, type Registry } from '@prometheus-io/client';
import type { JobEvent } from './job-events.ts';
import { type ProcessSource, processRegistry } from './process-metrics.ts';

/** Bucket bounds in seconds, from the merge of a small adapter to an evaluation at its time limit. */
const WORK_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900];
/** Bucket bounds in seconds. A round takes from seconds (demo) to an hour (large models). */
const ROUND_SECONDS = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600];

/** The values that a scrape reads from each job. Each job in the control API's CoordinatorStatus has these fields. */
export interface JobGauges {
  name: string;
  phase: string;
  round: number;
  rounds: number;
  peers: number;
  baseLoss: number | null;
  heldOutLoss: number | null;
  tokensPerSecond: number;
}

export interface CoordinatorMetricsSource extends ProcessSource {
  jobs(): JobGauges[];
  /** Returns the number of peers with an open connection. */
  connections(): number;
  /** Returns the number of updates of each job that are being fetched or checked. */
  intakeQueues(): { name: string; updates: number }[];
}

export interface CoordinatorMetrics {
  readonly registry: Registry;
  /** Counts an event. Call this once for each event, after the event is durable. */
  observe(event: JobEvent, jobName: string): void;
  /** Takes the coordinator's measurements of merges, gates, refusals and joins. */
  readonly meter: CoordinatorMeter;
  stop(): void;
}

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

/**
 * Creates the metrics of a coordinator. The label `job` is the name that the operator gave the job; the other labels
 * have fixed sets of values. No label is a peer id, because strangers can create any number of them. docs/metrics.md
 * lists the metrics.
 */
export function createCoordinatorMetrics(source: CoordinatorMetricsSource): CoordinatorMetrics {
  const { registry, stop } = processRegistry(source);
  const registers = [registry];
  const job = ['job'] as const;

  const gauge = (name: string, help: string, value: (job: JobGauges) => number | null): void => {
    new Gauge({
      name,
      help,
      labelNames: job,
      registers,
      collect() {
        for (const one of source.jobs()) {
          const v = value(one);
          if (v !== null) this.set({ job: one.name }, v);
        }
      },
    });
  };
  gauge('swarm_round', 'Round in progress, or the last one of a finished job.', (j) => j.round);
  gauge('swarm_rounds', 'Rounds of the job: the planned ones plus the null rounds so far.', (j) => j.rounds);
  gauge('swarm_peers', 'Nodes that take part in the job.', (j) => j.peers);
  gauge(
    'swarm_held_out_loss',
    'Held-out loss of the newest checkpoint, nats per token.',
    (j) => j.heldOutLoss,
  );
  gauge('swarm_base_loss', 'Held-out loss of the base model, nats per token.', (j) => j.baseLoss);
  gauge(
    'swarm_tokens_per_second',
    'Training speed of all nodes of the job together, tokens per second.',
    (j) => j.tokensPerSecond,
  );

  // Each scrape sets the gauges of a job's earlier phases to 0, so that only the current phase reads 1.
  const seenPhases: { name: string; phase: string }[] = [];
  new Gauge({
    name: 'swarm_job_phase',
    help: '1 for the phase that the job is in.',
    labelNames: ['job', 'phase'] as const,
    registers,
    collect() {
      const jobs = source.jobs();
      for (const { name, phase } of seenPhases) this.set({ job: name, phase }, 0);
      for (const { name, phase } of jobs) {
        if (!seenPhases.some((seen) => seen.name === name && seen.phase === phase)) {
          seenPhases.push({ name, phase });
        }
        this.set({ job: name, phase }, 1);
      }
    },
  });
  new Gauge({
    name: 'swarm_connections',
    help: 'Peers with an open connection.',
    registers,
    collect() {
      this.set(source.connections());
    },
  });

  const counter = <Label extends string = never>(name: string, help: string, ...labels: Label[]) =>
    new Counter<'job' | Label>({ name, help, labelNames: ['job', ...labels], registers });
  const histogram = (name: string, help: string, buckets: number[]) =>
    new Histogram<'job'>({ name, help, labelNames: job, buckets, registers });

  const updates = counter(
    'swarm_updates_total',
    'Receipts of updates, by code. An update counts again when its code changes.',
    'code',
  );
  const updateBytes = counter('swarm_update_bytes_total', 'Payload bytes of all updates received.');
  const tokens = counter('swarm_tokens_total', 'Training tokens in committed checkpoints.');
  const rounds = counter(
    'swarm_rounds_total',
    'Ended rounds, by outcome: committed, null or rolled-back.',
    'outcome',
  );
  const closed = counter(
    'swarm_rounds_closed_total',
    'Closed rounds, by cause: complete, quorum, deadline or operator.',
    'cause',
  );
  const seconds = histogram('swarm_round_seconds', 'Duration of committed rounds, seconds.', ROUND_SECONDS);
  const lost = counter(
    'swarm_peers_lost_total',
    'Nodes that left, fell silent or were removed, by reason.',
    'reason',
  );

  const queue = new Gauge({
    name: 'swarm_intake_queue_updates',
    help: 'Updates whose payloads are being fetched or checked.',
    labelNames: job,
    registers,
    collect() {
      for (const { name, updates } of source.intakeQueues()) queue.set({ job: name }, updates);
    },
  });
  const refusals = counter(
    'swarm_update_refusals_total',
    'Updates refused on arrival, by reason code, including refusals that are counted but not recorded.',
    'code',
  );
  const joins = counter('swarm_joins_total', 'Requests to join, by "ok" or the code of the refusal.', 'code');
  const unrecorded = counter(
    'swarm_unrecorded_changes_total',
    'Changes of members that were not recorded, because there were too many: description or presence.',
    'what',
  );
  const mergeSeconds = histogram(
    'swarm_merge_seconds',
    'Time to compute one merge, seconds. A gate may compute several.',
    WORK_SECONDS,
  );
  const mergeBytes = counter(
    'swarm_merge_bytes_total',
    'Payload bytes of the updates that merges were computed from.',
  );
  const mergedUpdates = counter(
    'swarm_merge_updates_total',
    'Updates of accepted merges: merged, left out by the gate, or outliers.',
    'outcome',
  );
  const scoringSeconds = histogram(
    'swarm_scoring_seconds',
    'Time to score the updates of a closed round, seconds.',
    WORK_SECONDS,
  );
  const scores = counter(
    'swarm_scores_total',
    'Updates of closed rounds: scored, unscored, or harmful and left out.',
    'outcome',
  );
  const withoutWeight = counter(
    'swarm_disbelieved_updates_total',
    'Updates that had no weight in their merge, because their authors were not believed.',
  );
  const strikes = counter('swarm_strikes_total', 'Recorded misdeeds of nodes, by kind.', 'kind');
  const sanctions = counter(
    'swarm_sanctions_total',
    'Decisions about nodes: suspended, banned or pardoned.',
    'what',
  );
  const sharedFaults = counter(
    'swarm_shared_faults_total',
    'Rounds in which nodes with most of the earned belief seemed to misbehave, so that no node got a strike.',
  );
  const audits = counter(
    'swarm_audits_total',
    'Audits of updates: passed, failed, or dropped without a result.',
    'verdict',
  );
  const auditRows = counter('swarm_audit_rows_total', 'Rows that audits have trained again.');
  const auditSeconds = histogram(
    'swarm_audit_seconds',
    'Time to train an interval again, seconds, without the time in which the audit waited.',
    WORK_SECONDS,
  );
  const auditShare = new Gauge({
    name: 'swarm_audit_share',
    help: 'Rows that audits have trained, as a share of the rows that the nodes have trained.',
    labelNames: job,
    registers,
  });
  const gateSeconds = histogram(
    'swarm_gate_seconds',
    'Time that a closed round spends in the gate, with all merges and evaluations, seconds.',
    WORK_SECONDS,
  );
  const gateVerdicts = counter(
    'swarm_gate_verdicts_total',
    'Gate verdicts: passed, half-rate, quarter-rate, removed, refused or rolled-back.',
    'verdict',
  );

  return {
    registry,
    stop,
    meter: {
      merge(name, { seconds, bytes }) {
        mergeSeconds.observe({ job: name }, seconds);
        mergeBytes.inc({ job: name }, bytes);
      },
      gate(name, { seconds, verdict, merged, leftOut, outliers }) {
        gateSeconds.observe({ job: name }, seconds);
        gateVerdicts.inc({ job: name, verdict });
        mergedUpdates.inc({ job: name, outcome: 'merged' }, merged);
        mergedUpdates.inc({ job: name, outcome: 'left-out' }, leftOut);
        mergedUpdates.inc({ job: name, outcome: 'outlier' }, outliers);
      },
      scoring(name, { seconds, scored, unscored, harmful, disbelieved }) {
        scoringSeconds.observe({ job: name }, seconds);
        scores.inc({ job: name, outcome: 'scored' }, scored);
        scores.inc({ job: name, outcome: 'unscored' }, unscored);
        scores.inc({ job: name, outcome: 'harmful' }, harmful);
        withoutWeight.inc({ job: name }, disbelieved);
      },
      audit(name, { verdict, rows, seconds, share }) {
        audits.inc({ job: name, verdict });
        auditRows.inc({ job: name }, rows);
        auditSeconds.observe({ job: name }, seconds);
        auditShare.set({ job: name }, share);
      },
      refusal(name, code) {
        refusals.inc({ job: name, code });
      },
      join(name, code) {
        joins.inc({ job: name, code });
      },
      unrecorded(name, what) {
        unrecorded.inc({ job: name, what });
      },
    },
    observe(event, name) {
      if (event.type === 'update') {
        updates.inc({ job: name, code: event.code });
        updateBytes.inc({ job: name }, event.bytes);
      } else if (event.type === 'update-undone') {
        updates.inc({ job: name, code: event.code });
      } else if (event.type === 'round-closed') {
        closed.inc({ job: name, cause: event.cause });
      } else if (event.type === 'checkpoint') {
        rounds.inc({ job: name, outcome: 'committed' });
        tokens.inc({ job: name }, event.tokens);
        seconds.observe({ job: name }, event.seconds);
      } else if (event.type === 'rolled-back') {
        rounds.inc({ job: name, outcome: 'rolled-back' });
      } else if (event.type === 'null-round') {
        rounds.inc({ job: name, outcome: 'null' });
      } else if (event.type === 'peer-lost') {
        lost.inc({ job: name, reason: event.reason });
      } else if (event.type === 'struck') {
        strikes.inc({ job: name, kind: event.kind });
      } else if (event.type === 'suspended' || event.type === 'banned' || event.type === 'pardoned') {
        sanctions.inc({ job: name, what: event.type });
      } else if (event.type === 'shared-fault') {
        sharedFaults.inc({ job: name });
      }
    },
  };
}
