import { join } from 'node:path';
import { HelperProcess } from '../../cli/daemon/helper-process.ts';
import type { DemoData } from '../../cli/demo/data.ts';
import { submitJob } from '../../cli/job/create.ts';
import { systemClock } from '../../common/system-clock.ts';
import { ApiClient } from '../../coordinator/client/api-client.ts';
import { followEvents } from '../../coordinator/client/follow.ts';
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

const ROOT = join(import.meta.dirname, '../..');
const BASE = join(ROOT, 'models', 'nano');
/** Number of nodes of the swarm. Each node has a trainer with one thread. */
export const NODES = 3;
const LORA = loraConfig({ rank: 16, alpha: 32 });
const TRAINING = { learningRate: 1e-3, batchSize: 8, microBatch: 8, sequenceLength: 128 };

export interface Size {
  /** Number of optimiser steps of a node in a round. */
  localSteps: number;
  /**
   * Number of rounds. The first round does not count, because the nodes compile graphs in it, and their speed
   * is measured.
   */
  rounds: number;
  /**
   * Number of times that the swarm and the trainers run. Their order changes from time to time, so that other
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
  const context = {
    self: { node: process.execPath, script: join(ROOT, 'cli', 'swarm.js') },
    cwd: ROOT,
    environment: process.env,
    clock: systemClock,
    signal,
    stderr: { write: () => {}, isTTY: false, columns: 80, rows: 24, color: false },
  };
  const home = join(folder, 'coordinator');
  const common = ['--listen', '/ip4/127.0.0.1/tcp/0', '--no-mdns', '--threads', '1', '--json'];
  const helpers: HelperProcess[] = [];
  const start = async (label: string, args: string[]): Promise<void> => {
    const helper = new HelperProcess(
      { name: label, arguments: [...args, ...common], logFile: join(folder, `${label}.log`) },
      context,
    );
    helpers.push(helper);
    await helper.first('ready', { signal });
  };
  try {
    await start('coordinator', ['coordinator', '--home', home, '--no-publish']);
    const open = () => ApiClient.open(home, 'coordinator', { signal });
    const { job, invite } = await submitJob(context, await open(), {
      name: 'bench',
      base: BASE,
      data: { train: [data.train], heldOut: [data.heldOut] },
      lora: LORA,
      training: TRAINING,
      rounds: { count: rounds, localSteps, minPeers: NODES, quorum: 1 },
    });
    await Promise.all(
      Array.from({ length: NODES }, (_, i) =>
        start(`node-${i}`, ['node', '--no-polite', invite, '--home', join(folder, `node-${i}`)]),
      ),
    );
    let tokens = 0;
    let from: { at: number; processor: number | null } | null = null;
    let to = 0;
    /** Training seconds of the slowest node of each timed round, summed over these rounds. */
    let trained = 0;
    /** Training seconds of the slowest node of the open round. */
    let slowest = 0;
    const processor = () => groupCpuMilliseconds(helpers.map(({ pid }) => pid!));
    for await (const event of followEvents(open, job, { signal, now: systemClock.now })) {
      // The benchmark has no operator who would resume a paused job.
      if (event.type === 'paused') throw new Error(`the job of the benchmark has paused: ${event.reason}`);
      if (event.type === 'finished') break;
      if (event.type === 'update') slowest = Math.max(slowest, event.seconds);
      if (event.type !== 'checkpoint' || event.round === 0) continue;
      if (from === null) from = { at: event.at, processor: processor() };
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
      processor: perThousand(from!.processor, processor(), tokens),
      between: 1 - trained / seconds,
    };
  } finally {
    await Promise.all(helpers.map((helper) => helper.stop()));
  }
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
      lora: LORA,
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
    // The trainer is a child of this process, in the same process group, so the group's time includes that of
    // the trainer.
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
