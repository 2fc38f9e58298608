import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { ApiClient } from '../../cli/api-client.ts';
import { submitJob } from '../../cli/create-job.ts';
import { type DemoData, prepareData } from '../../cli/demo/data.ts';
import { followJob } from '../../cli/follow.ts';
import { HelperProcess } from '../../cli/helper-process.ts';
import { rowOrder } from '../../cli/train/order.ts';
import { loraConfig } from '../../lora/adapter/config.ts';
import { initAdapter } from '../../lora/adapter/peft.ts';
import { packData } from '../../lora/data/pack-data.ts';
import { dataSettingsSchema } from '../../lora/data/settings.ts';
import { loadTokenizer } from '../../lora/data/tokenizer.ts';
import { trainingConfigSchema } from '../../lora/train/config.ts';
import { TrainerProcess } from '../../lora/train/supervisor.ts';
import { systemClock } from '../../net/clock.ts';
import type { BenchOptions, BenchRow } from '../bench.ts';

export const name = 'swarm';
export const about = 'a swarm of 3 nodes and one trainer of as many threads, in turns; some minutes';

const ROOT = join(import.meta.dirname, '../..');
const BASE = join(ROOT, 'models', 'nano');
/** Each with a trainer of one thread; the trainer that they are compared with has as many threads as they have together. */
const NODES = 3;
const LORA = loraConfig({ rank: 16, alpha: 32 });
const TRAINING = { learningRate: 1e-3, batchSize: 8, microBatch: 8, sequenceLength: 128 };
const TARGET = 0.9;
/** Everything together takes four minutes on two idle cores. */
const PATIENCE_MS = 20 * 60_000;

interface Size {
  /** Optimiser steps of a node in a round. */
  localSteps: number;
  /** The first is not counted: graphs are compiled and nodes measured in it. */
  rounds: number;
  /** Each runs both sides, in an order that changes: a machine's other load hits both alike. */
  repeats: number;
}
/** Rounds of about 15 seconds on two cores: short ones, against the minutes of a real job. */
const FULL: Size = { localSteps: 48, rounds: 3, repeats: 3 };
const QUICK: Size = { localSteps: 12, rounds: 2, repeats: 1 };

/**
 * Training speed of a whole swarm (coordinator and nodes as processes on loopback, with exchange, merge and held-out
 * gate) over that of one trainer process with the nodes' threads, for the same tokens, in alternation.
 */
export async function run(report: (row: BenchRow) => void, options: BenchOptions): Promise<void> {
  const size = options.quick ? QUICK : FULL;
  const folder = await mkdtemp(join(tmpdir(), 'swarm-bench-'));
  const signal = AbortSignal.timeout(PATIENCE_MS);
  // More threads than cores only get in each other's way: the best that one trainer could do here is told beside.
  const cores = Math.min(NODES, availableParallelism());
  const sides = new Map<string, () => Promise<number>>();
  const speeds = new Map<string, number[]>();
  try {
    const data = await prepareData(join(folder, 'data'), { cwd: ROOT });
    let run = 0;
    sides.set('swarm', () => swarmSpeed(join(folder, `swarm-${run++}`), data, size, signal));
    for (const threads of new Set([NODES, cores])) {
      sides.set(trainerName(threads), () => trainerSpeed(folder, threads, data, size, signal));
    }
    for (let repeat = 0; repeat < size.repeats; repeat++) {
      const order = [...sides];
      for (const [side, measure] of repeat % 2 === 0 ? order : order.reverse()) {
        const speed = await measure();
        speeds.set(side, [...(speeds.get(side) ?? []), speed]);
        options.log(`swarm: ${side} ${speed.toFixed(0)} tokens/s`);
      }
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  const swarm = speeds.get('swarm')!;
  const where = `${NODES} nodes of 1 thread, rounds of ${size.localSteps} steps`;
  for (const [side, values] of speeds) {
    const reference = side === 'swarm' ? where : 'the same tokens, no swarm';
    const name = `swarm: ${side === 'swarm' ? 'training speed' : side}`;
    report({ name, value: median(values), unit: 'tokens/s', target: null, met: null, reference });
  }
  for (const threads of new Set([NODES, cores])) {
    const single = speeds.get(trainerName(threads))!;
    const ratios = swarm.map((speed, i) => speed / single[i]!);
    const value = median(ratios);
    const same = threads === NODES;
    const spread = `${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)}`;
    report({
      name: `swarm / ${trainerName(threads)}`,
      value,
      unit: '×',
      target: same ? TARGET : null,
      met: same ? value >= TARGET : null,
      reference: `${where}; median of ${size.repeats} in alternation (${spread}), ${availableParallelism()} cores`,
    });
  }
}

function trainerName(threads: number): string {
  return `one trainer of ${threads} threads`;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

/** Tokens in checkpoints per second of wall clock, from the first checkpoint to the last. */
async function swarmSpeed(
  folder: string,
  data: DemoData,
  { rounds, localSteps }: Size,
  signal: AbortSignal,
): Promise<number> {
  const context = {
    self: { node: process.execPath, script: join(ROOT, 'cli', 'swarm.js') },
    cwd: ROOT,
    environment: process.env,
    clock: systemClock,
    stderr: { write: () => {}, isTTY: false, columns: 80, color: false },
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
    await start('coordinator', ['coordinator', '--home', home]);
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
        start(`node-${i}`, ['node', invite, '--home', join(folder, `node-${i}`)]),
      ),
    );
    let tokens = 0;
    let from: number | null = null;
    let to = 0;
    for await (const event of followJob(open, job, { signal, now: systemClock.now })) {
      if (event.type === 'failed') throw new Error(`the bench's job failed: ${event.reason}`);
      if (event.type === 'finished') break;
      if (event.type !== 'checkpoint' || event.round === 0) continue;
      if (from === null) from = event.at;
      else tokens += event.tokens;
      to = event.at;
    }
    return (tokens / (to - from!)) * 1000;
  } finally {
    await Promise.all(helpers.map((helper) => helper.stop()));
  }
}

/** Tokens per second of wall clock of one trainer after its first steps, for as many tokens as the swarm is timed on. */
async function trainerSpeed(
  folder: string,
  threads: number,
  data: DemoData,
  { rounds, localSteps }: Size,
  signal: AbortSignal,
): Promise<number> {
  const tokenizer = await loadTokenizer(BASE);
  const packed = await packData(
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
      threads,
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
    const warm = await train(initAdapter(trainer.layout, 1), 2);
    const startedAt = performance.now();
    const { tokens } = await train(warm.adapter, NODES * localSteps * (rounds - 1));
    return tokens / ((performance.now() - startedAt) / 1000);
  } finally {
    packed.close();
    await trainer.stop();
  }
}
