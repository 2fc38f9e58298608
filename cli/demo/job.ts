import type { JobSpecInput } from '../../index.ts';
import type { DemoData } from './data.ts';

/** Returns the demo's job. With these settings the small model learns most in three minutes on two cores. */
export function demoJob({ base, data, rounds, nodes }: DemoJobOptions): JobSpecInput {
  return {
    name: 'moby-dick',
    base,
    data: { train: [data.train], heldOut: [data.heldOut] },
    lora: { rank: 16, alpha: 32, targets: 'all-linear' },
    training: {
      learningRate: 3e-3,
      schedule: 'constant',
      warmupSteps: 10,
      batchSize: 8,
      microBatch: 8,
      sequenceLength: 128,
    },
    rounds: {
      count: rounds,
      localSteps: 15,
      minPeers: Math.min(2, nodes),
      // All nodes share one machine, so a node is late only by chance, and the round waits for it.
      quorum: 1,
      maxSeconds: 120,
      // As good as "dense" on this model (docs/decisions/050-learning.md) with an eighth of the bytes.
      preset: 'balanced',
    },
    acceptance: { heldOutRows: 64 },
    seed: 1,
  };
}

export interface DemoJobOptions {
  base: string;
  data: DemoData;
  rounds: number;
  nodes: number;
}
