import { Counter, Gauge, Histogram, type Registry } from '@prometheus-io/client';
import type { ReceiptCode } from '../protocol/receipts.ts';
import { type ProcessSource, processRegistry } from './process-metrics.ts';

/** From demo rounds of seconds to an hour of large models. */
const TRAIN_SECONDS = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600];

/** What a scrape asks a node; the states are those of a heartbeat. */
export interface NodeGauges {
  state: string;
  round: number;
  step: number;
  steps: number;
  tokensPerSecond: number;
}

export interface NodeMetricsSource extends ProcessSource {
  node(): NodeGauges;
  connections(): number;
}

export interface NodeMetrics {
  readonly registry: Registry;
  receipt(code: ReceiptCode): void;
  /** A round that this node has trained. */
  trained(round: { tokens: number; seconds: number; lossLast: number; updateBytes: number }): void;
  /** The trainer process died and was started again. */
  trainerRestarted(): void;
  stop(): void;
}

/** Every metric of a contributor node. */
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
  gauge('swarm_round', 'Round that the node is in.', () => source.node().round);
  gauge('swarm_step', 'Optimiser steps made in this round.', () => source.node().step);
  gauge('swarm_steps', 'Optimiser steps planned in this round.', () => source.node().steps);
  gauge('swarm_tokens_per_second', 'Training speed of this node.', () => source.node().tokensPerSecond);
  gauge('swarm_connections', 'Peers with an open connection.', () => source.connections());

  const states = new Set<string>();
  new Gauge({
    name: 'swarm_node_state',
    help: '1 for the state that the node is in.',
    labelNames: ['state'] as const,
    registers,
    collect() {
      const { state } = source.node();
      states.add(state);
      for (const one of states) this.set({ state: one }, one === state ? 1 : 0);
    },
  });

  const updates = new Counter({
    name: 'swarm_updates_total',
    help: 'Own updates by the code of their receipt.',
    labelNames: ['code'] as const,
    registers,
  });
  const updateBytes = new Counter({
    name: 'swarm_update_bytes_total',
    help: 'Payload bytes of own updates.',
    registers,
  });
  const tokens = new Counter({ name: 'swarm_tokens_total', help: 'Tokens trained.', registers });
  const seconds = new Histogram({
    name: 'swarm_round_seconds',
    help: 'Training time per round.',
    buckets: TRAIN_SECONDS,
    registers,
  });
  const loss = new Gauge({
    name: 'swarm_train_loss',
    help: 'Loss of the last step of the last trained round, nats per token.',
    registers,
  });
  const restarts = new Counter({
    name: 'swarm_trainer_restarts_total',
    help: 'Times the trainer process died and was started again.',
    registers,
  });

  return {
    registry,
    stop,
    receipt: (code) => updates.inc({ code }),
    trained(round) {
      tokens.inc(round.tokens);
      updateBytes.inc(round.updateBytes);
      seconds.observe(round.seconds);
      loss.set(round.lossLast);
    },
    trainerRestarted: () => restarts.inc(),
  };
}
