import { join } from 'node:path';
import type { DemoData } from '../../cli/demo/data.ts';
import { initialMatrices } from '../../lora/adapter/initial.ts';
import { loraConfig } from '../../lora/adapter/lora-config.ts';
import { packFiles } from '../../lora/data/pack-files.ts';
import { dataSettingsSchema } from '../../lora/data/settings.ts';
import { loadTokenizer } from '../../lora/data/tokenizer.ts';
import { rowOrder } from '../../lora/finetune/row-order.ts';
import { processorCompute } from '../../lora/train/compute.ts';
import { trainingConfigSchema } from '../../lora/train/config.ts';
import { TrainerProcess } from '../../lora/train/process/supervisor.ts';
import { groupCpuMilliseconds, processGroup } from './cpu-time.ts';
import { BASE, SwarmProcesses, TRAINING } from './swarm-processes.ts';

/** Number of nodes of the swarm. Each node has a trainer with one thread. */
export const NODES = 3;
const RANK = 16;

export interface Size {
  /** Number of optimiser steps of a node in a round. */
  localSteps: number;
  /**
   * Number of rounds. The first round does not count, because during this round the nodes compile graphs, and the
   * coordinator does not know their speeds yet.
   */
  rounds: number;
  /**
   * Number of times that the swarm and the trainers run. Every second time, they run in reverse order, so that other
   * load on the machine affects all of them equally.
   */
  repeats: number;
}

export interface Measured {
  /** Speed by wall-clock time. */
  tokensPerSecond: number;
  /** Processor time of all processes involved, in ms per 1,000 tokens; null if the system does not report it. */
  processor: number | null;
  /**
   * Share of the time in which even the slowest node of the round does not train; null for a single trainer.
   */
  between: number | null;
}

/** Runs a coordinator and nodes as processes on loopback, and times them from the first checkpoint to the last. */
export async function measureSwarm(
  folder: string,
  data: DemoData,
  { rounds, localSteps }: Size,
  signal: AbortSignal,
): Promise<Measured> {
  return SwarmProcesses.run(folder, signal, async (swarm) => {
    const { job, invite } = await swarm.createJob(data, {
      name: 'bench',
      rank: RANK,
      rounds,
      localSteps,
      nodes: NODES,
      after: null,
    });
    await swarm.startNodes(NODES, [invite]);
    let tokens = 0;
    let from: { at: number; processor: number | null } | null = null;
    let to = 0;
    /** Training seconds of the slowest node of each timed round, summed over these rounds. */
    let trained = 0;
    /** Training seconds of the slowest node of the open round. */
    let slowest = 0;
    for await (const event of swarm.events(job)) {
      if (event.type === 'finished') break;
      if (event.type === 'update') slowest = Math.max(slowest, event.seconds);
      if (event.type !== 'checkpoint' || event.round === 0) continue;
      if (from === null) from = { at: event.at, processor: swarm.processor() };
      else {
        tokens += event.tokens;
        trained += slowest;
      }
      slowest = 0;
      to = event.at;
    }
    const seconds = (to - from!.at) / 1000;
    return {
      tokensPerSecond: tokens / seconds,
      processor: perThousand(from!.processor, swarm.processor(), tokens),
      between: 1 - trained / seconds,
    };
  });
}

/**
 * Measures one trainer process on as many tokens as the swarm trains on. The first two steps warm up the trainer and
 * are not measured.
 */
export async function measureTrainer(
  folder: string,
  threads: number,
  data: DemoData,
  { rounds, localSteps }: Size,
  signal: AbortSignal,
): Promise<Measured> {
  const tokenizer = await loadTokenizer(BASE);
  const packed = await packFiles(
    {
      paths: [data.train],
      settings: dataSettingsSchema.parse({}),
      sequenceLength: TRAINING.sequenceLength,
      modelDir: BASE,
      cacheDir: join(folder, 'cache'),
      now: Date.now(),
      signal,
    },
    { tokenizer },
  );
  const trainer = await TrainerProcess.start(
    {
      modelDir: BASE,
      cacheDir: join(folder, 'cache'),
      compute: processorCompute({ threads }),
      lora: loraConfig({ rank: RANK, alpha: 2 * RANK }),
      training: trainingConfigSchema.parse(TRAINING),
    },
    { signal },
  );
  try {
    const order = rowOrder(packed.rows, 1, 0);
    const train = (adapter: readonly Float32Array[], steps: number) => {
      const taken = Array.from({ length: steps * TRAINING.batchSize }, () => packed.row(order.next().value));
      return trainer.train({ adapter, rows: taken, steps, signal });
    };
    const warm = await train(initialMatrices(trainer.layout, 1), 2);
    // The trainer is a child of this process and in the same process group. The time of the group therefore includes
    // the time of the trainer.
    const processor = () => groupCpuMilliseconds([processGroup()]);
    const startedAt = performance.now();
    const before = processor();
    const { tokens } = await train(warm.adapter, NODES * localSteps * (rounds - 1));
    return {
      tokensPerSecond: tokens / ((performance.now() - startedAt) / 1000),
      processor: perThousand(before, processor(), tokens),
      between: null,
    };
  } finally {
    packed.close();
    await trainer.stop();
  }
}

function perThousand(before: number | null, after: number | null, tokens: number): number | null {
  return before === null || after === null ? null : (after - before) / (tokens / 1000);
}
