import { Counter, Gauge, Histogram, type Registry } from '@prometheus-io/client';
import type { JobEvent } from './job-events.ts';
import { type ProcessSource, processRegistry } from './process-metrics.ts';

/** Rounds take from seconds (demo) to an hour (large models). */
const ROUND_SECONDS = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600];

/** What a scrape asks about each job; the control API's CoordinatorStatus has these fields. */
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
  /** Peers with an open connection. */
  connections(): number;
}

export interface CoordinatorMetrics {
  readonly registry: Registry;
  /** To be called once for each event as it becomes durable. */
  observe(event: JobEvent, jobName: string): void;
  stop(): void;
}

/**
 * Every metric of a coordinator. Labels are the job's name (which its operator gives) and receipt codes; never peer ids, of
 * which there is no end.
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
  gauge('swarm_rounds', 'Rounds that the job plans.', (j) => j.rounds);
  gauge('swarm_peers', 'Nodes that take part in the job.', (j) => j.peers);
  gauge(
    'swarm_held_out_loss',
    'Held-out loss of the newest checkpoint, nats per token.',
    (j) => j.heldOutLoss,
  );
  gauge('swarm_base_loss', 'Held-out loss of the base model, nats per token.', (j) => j.baseLoss);
  gauge(
    'swarm_tokens_per_second',
    'Training speed of all nodes of the job together.',
    (j) => j.tokensPerSecond,
  );

  // Phases shown before must go to 0, or two would read 1.
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

  const updates = new Counter({
    name: 'swarm_updates_total',
    help: 'Updates by the code of their receipt.',
    labelNames: ['job', 'code'] as const,
    registers,
  });
  const updateBytes = new Counter({
    name: 'swarm_update_bytes_total',
    help: 'Payload bytes of all updates received.',
    labelNames: job,
    registers,
  });
  const tokens = new Counter({
    name: 'swarm_tokens_total',
    help: 'Training tokens in committed checkpoints.',
    labelNames: job,
    registers,
  });
  const rounds = new Counter({
    name: 'swarm_rounds_total',
    help: 'Closed rounds: committed, or null rounds that changed nothing.',
    labelNames: ['job', 'outcome'] as const,
    registers,
  });
  const closed = new Counter({
    name: 'swarm_rounds_closed_total',
    help: 'Why rounds closed: everybody had delivered, quorum and time, or the deadline.',
    labelNames: ['job', 'cause'] as const,
    registers,
  });
  const seconds = new Histogram({
    name: 'swarm_round_seconds',
    help: 'Duration of committed rounds.',
    labelNames: job,
    buckets: ROUND_SECONDS,
    registers,
  });
  const lost = new Counter({
    name: 'swarm_peers_lost_total',
    help: 'Nodes that left or fell silent.',
    labelNames: ['job', 'reason'] as const,
    registers,
  });

  return {
    registry,
    stop,
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
      } else if (event.type === 'null-round') {
        rounds.inc({ job: name, outcome: 'null' });
      } else if (event.type === 'peer-lost') {
        lost.inc({ job: name, reason: event.reason });
      }
    },
  };
}
