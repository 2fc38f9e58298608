import { Counter, Gauge, Histogram, type Registry } from '@prometheus-io/client';
import type { ReceiptCode } from '../../protocol/receipts.ts';
import { type ProcessSource, processRegistry } from './process-metrics.ts';

/** Bucket bounds in seconds. A round takes from seconds (demo) to an hour (large models). */
const TRAIN_SECONDS = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600];

/** The values that a scrape reads about one job of a node. */
export interface JobGauges {
  /** Label with the digest of the job; null before the node has joined a job. */
  job: { job: string } | null;
  state: string;
  round: number;
  trainerSeconds: number;
}

/** The values that a scrape reads from a node. The states are the states in a heartbeat. */
export interface NodeGauges {
  state: string;
  round: number;
  step: number;
  steps: number;
  tokensPerSecond: number;
  /** Number of rounds that the trainer process has received and not yet ended. */
  trainerQueue: number;
  /** The jobs of all invites of the node. */
  jobs: readonly JobGauges[];
}

export interface NodeMetricsSource extends ProcessSource {
  node(): NodeGauges;
  connections(): number;
}

export interface NodeMetrics {
  readonly registry: Registry;
  /** Counts a new receipt code of one of this node's updates. */
  receiptArrived(code: ReceiptCode): void;
  /** Counts a trained round whose update is stored. */
  roundTrained(round: { tokens: number; seconds: number; lossLast: number; updateBytes: number }): void;
  /** Counts a round that produced no update. @param code error code, or `unknown` */
  roundLost(code: string): void;
  /** Counts an optimiser step. */
  stepMade(): void;
  /** Counts a restart of the trainer process. @param code error code of the cause */
  trainerRestarted(code: string): void;
  stop(): void;
}

/** Number of digits of a job's digest in a label. */
const JOB_DIGITS = 12;

/**
 * Creates the metrics of a node. The label `job` has one value for each job that the node takes part in at the moment. All
 * other labels have a fixed set of values. docs/metrics.md lists the metrics.
 */
export function createNodeMetrics(source: NodeMetricsSource): NodeMetrics {
  const { registry, stop } = processRegistry(source);
  const registers = [registry];

  const gauge = (name: string, help: string, value: () => number): void => {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(value());
      },
    });
  };
  gauge('swarm_round', 'Round of the newest head.', () => source.node().round);
  gauge('swarm_step', 'Optimiser steps that this node has made in the round.', () => source.node().step);
  gauge(
    'swarm_steps',
    'Optimiser steps that are planned for this node in the round.',
    () => source.node().steps,
  );
  gauge(
    'swarm_tokens_per_second',
    'Training speed of this node, tokens per second.',
    () => source.node().tokensPerSecond,
  );
  gauge(
    'swarm_trainer_queue',
    'Rounds that the trainer process has received and has not finished.',
    () => source.node().trainerQueue,
  );
  gauge('swarm_connections', 'Peers with an open connection.', () => source.connections());

  const states = new Set<string>();
  new Gauge({
    name: 'swarm_node_state',
    help: '1 for the current state of the node, 0 for its earlier states.',
    labelNames: ['state'] as const,
    registers,
    collect() {
      const { state } = source.node();
      states.add(state);
      for (const one of states) this.set({ state: one }, one === state ? 1 : 0);
    },
  });

  const ofJobs = (
    name: string,
    help: string,
    labelNames: ('job' | 'state')[],
    read: (job: JobGauges) => { labels?: { state: string }; value: number },
  ): void => {
    new Gauge({
      name,
      help,
      labelNames,
      registers,
      collect() {
        // Removes the values of jobs that the node no longer takes part in, and of earlier states.
        this.reset();
        for (const one of source.node().jobs) {
          if (one.job === null) continue;
          const { labels, value } = read(one);
          this.set({ job: one.job.job.slice(0, JOB_DIGITS), ...labels }, value);
        }
      },
    });
  };
  ofJobs(
    'swarm_job_state',
    '1 for the current state of the node in the job. Earlier states have no value.',
    ['job', 'state'],
    ({ state }) => ({
      labels: { state },
      value: 1,
    }),
  );
  ofJobs('swarm_job_round', 'Round of the newest head of a job.', ['job'], ({ round }) => ({
    value: round,
  }));
  ofJobs(
    'swarm_job_trainer_seconds',
    'Time that the trainer has spent on a job since the node started, seconds.',
    ['job'],
    ({ trainerSeconds }) => ({ value: trainerSeconds }),
  );

  const updates = new Counter({
    name: 'swarm_updates_total',
    help: 'Updates of this node, by receipt code. An update counts again when its code changes.',
    labelNames: ['code'] as const,
    registers,
  });
  const updateBytes = new Counter({
    name: 'swarm_update_bytes_total',
    help: 'Payload bytes of the updates of this node.',
    registers,
  });
  const tokens = new Counter({ name: 'swarm_tokens_total', help: 'Supervised tokens trained.', registers });
  const seconds = new Histogram({
    name: 'swarm_round_seconds',
    help: 'Training time of a round whose update is stored, seconds.',
    buckets: TRAIN_SECONDS,
    registers,
  });
  const loss = new Gauge({
    name: 'swarm_train_loss',
    help: 'Loss of the last optimiser step in the round that this node trained last, nats per token.',
    registers,
  });
  const restarts = new Counter({
    name: 'swarm_trainer_restarts_total',
    help: 'Restarts of the trainer process, by error code of the cause.',
    labelNames: ['code'] as const,
    registers,
  });
  const steps = new Counter({
    name: 'swarm_trainer_steps_total',
    help: 'Optimiser steps made, including those of lost rounds.',
    registers,
  });
  const lost = new Counter({
    name: 'swarm_rounds_lost_total',
    help: 'Rounds that produced no update, by error code.',
    labelNames: ['code'] as const,
    registers,
  });

  return {
    registry,
    stop,
    receiptArrived: (code) => updates.inc({ code }),
    roundTrained(round) {
      tokens.inc(round.tokens);
      updateBytes.inc(round.updateBytes);
      seconds.observe(round.seconds);
      loss.set(round.lossLast);
    },
    roundLost: (code) => lost.inc({ code }),
    stepMade: () => steps.inc(),
    trainerRestarted: (code) => restarts.inc({ code }),
  };
}
