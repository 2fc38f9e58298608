import { Gauge, type Registry } from '@prometheus-io/client';
import type { JobEvent } from '../../protocol/api/job-events.ts';
import { eventMetrics } from './event-metrics.ts';
import { JobMetrics } from './job-metrics.ts';
import { type ProcessSource, processRegistry } from './process-metrics.ts';
import { type CoordinatorMeter, workMeter } from './work-meter.ts';

/** The values that a scrape reads from each job. Each job in the control API's CoordinatorStatus has these fields. */
export interface JobGauges {
  name: string;
  phase: string;
  round: number;
  rounds: number;
  roundsDone: number;
  peers: number;
  baseLoss: number | null;
  heldOutLoss: number | null;
  tokensPerSecond: number;
  tasks: { readonly newest: { readonly value: number | null } | null } | null;
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
  /** Receives the coordinator's measurements of merges, gates, refusals and joins. */
  readonly meter: CoordinatorMeter;
  stop(): void;
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
  gauge('swarm_round', 'Round in progress, or the last round of a finished job.', (j) => j.round);
  gauge(
    'swarm_rounds',
    'Number of checkpoints after which the job is finished. Rounds without a checkpoint do not count.',
    (j) => j.rounds,
  );
  gauge(
    'swarm_rounds_done',
    'Number of checkpoints that the job has made. Rounds without a checkpoint do not count.',
    (j) => j.roundsDone,
  );
  gauge('swarm_peers', 'Nodes that take part in the job.', (j) => j.peers);
  gauge(
    'swarm_held_out_loss',
    'Held-out loss of the newest checkpoint, nats per token.',
    (j) => j.heldOutLoss,
  );
  gauge(
    'swarm_task_value',
    'Value of the metric that the job has chosen, for the newest evaluated checkpoint.',
    (j) => j.tasks?.newest?.value ?? null,
  );
  gauge('swarm_base_loss', 'Held-out loss of the initial adapter, nats per token.', (j) => j.baseLoss);
  gauge(
    'swarm_tokens_per_second',
    'Training speed of all nodes of the job together, tokens per second.',
    (j) => j.tokensPerSecond,
  );

  // Each scrape sets the gauges of a job's earlier phases to 0, so that only the current phase reads 1.
  const seenPhases: { name: string; phase: string }[] = [];
  new Gauge({
    name: 'swarm_job_phase',
    help: '1 for the current phase of the job, 0 for its earlier phases.',
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

  new Gauge({
    name: 'swarm_intake_queue_updates',
    help: 'Updates whose payloads are being fetched or checked.',
    labelNames: job,
    registers,
    collect() {
      for (const { name, updates } of source.intakeQueues()) this.set({ job: name }, updates);
    },
  });

  const metrics = new JobMetrics({ registry });
  return {
    registry,
    stop,
    meter: workMeter(metrics, registry),
    observe: eventMetrics(metrics),
  };
}
