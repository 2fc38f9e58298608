import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { ApiClient } from '../../cli/api-client.ts';
import { submitJob } from '../../cli/create-job.ts';
import { type DemoData, prepareData } from '../../cli/demo/data.ts';
import { followJob } from '../../cli/follow.ts';
import { HelperProcess } from '../../cli/helper-process.ts';
import { epochs, packFiles } from '../../cli/train-rows.ts';
import { initAdapter } from '../../lora/adapter/peft.ts';
import { loadTokenizer } from '../../lora/data/tokenizer.ts';
import { trainingConfigSchema } from '../../lora/train/config.ts';
import { TrainerProcess } from '../../lora/train/supervisor.ts';
import { systemClock } from '../../net/clock.ts';
import type { BenchRow } from '../bench.ts';

export const name = 'swarm';

const ROOT = join(import.meta.dirname, '../..');
const BASE = join(ROOT, 'models', 'nano');
const NODES = 3;
/** The nodes' threads in total, as far as the machine can run them at once: more only get in each other's way. */
const THREADS = Math.min(NODES, availableParallelism());
const LORA = { rank: 16, alpha: 32, targets: 'all-linear' } as const;
const TRAINING = { learningRate: 1e-3, batchSize: 8, microBatch: 8, sequenceLength: 128 };
/** Rounds of about 20 seconds on two cores: short ones, against the minutes of a real job. */
const LOCAL_STEPS = 48;
/** The first is not counted: graphs are compiled and nodes measured in it. */
const ROUNDS = 3;
const REPEATS = 2;
const TARGET = 0.9;
/** Everything together takes two minutes on two cores. */
const PATIENCE_MS = 15 * 60_000;

/**
 * Training speed of a whole swarm (coordinator and nodes as processes on loopback, with exchange, merge and held-out
 * gate) over that of one trainer process with the nodes' threads, in alternation.
 */
export async function run(
  report: (row: BenchRow) => void,
  options: { log: (line: string) => void },
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'swarm-bench-'));
  const signal = AbortSignal.timeout(PATIENCE_MS);
  try {
    const data = await prepareData(join(folder, 'data'), { cwd: ROOT });
    const swarm: number[] = [];
    const single: number[] = [];
    for (let repeat = 0; repeat < REPEATS; repeat++) {
      swarm.push(await swarmSpeed(join(folder, `swarm-${repeat}`), data, signal));
      single.push(await trainerSpeed(folder, data, signal));
      options.log(`swarm ${swarm.at(-1)!.toFixed(0)}, one trainer ${single.at(-1)!.toFixed(0)} tokens/s`);
    }
    const ratios = swarm.map((speed, i) => speed / single[i]!);
    const value = ratios.reduce((sum, ratio) => sum + ratio, 0) / ratios.length;
    const where = `${NODES} nodes of 1 thread, rounds of ${LOCAL_STEPS} steps`;
    const best = (speeds: readonly number[]) => Math.max(...speeds);
    const row = { unit: 'tokens/s', target: null, met: null };
    report({ name: 'swarm training speed', value: best(swarm), ...row, reference: where });
    report({
      name: 'swarm one trainer',
      value: best(single),
      ...row,
      reference: `${THREADS} threads, the same steps`,
    });
    report({
      name: 'swarm / one trainer',
      value,
      unit: '×',
      target: TARGET,
      met: value >= TARGET,
      reference: `${where}, against one trainer of ${THREADS} threads; mean of ${REPEATS} in alternation`,
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Tokens in checkpoints per second of wall clock, from the first checkpoint to the last. */
async function swarmSpeed(folder: string, data: DemoData, signal: AbortSignal): Promise<number> {
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
      rounds: { count: ROUNDS, localSteps: LOCAL_STEPS, minPeers: NODES, quorum: 1 },
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

/** Tokens per second of one trainer after its first step. */
async function trainerSpeed(folder: string, data: DemoData, signal: AbortSignal): Promise<number> {
  const tokenizer = await loadTokenizer(BASE);
  const { rows } = await packFiles([data.train], tokenizer, { ...TRAINING, signal });
  const trainer = await TrainerProcess.start(
    {
      modelDir: BASE,
      cacheDir: join(folder, 'cache'),
      threads: THREADS,
      lora: LORA,
      training: trainingConfigSchema.parse(TRAINING),
    },
    { signal },
  );
  try {
    const source = epochs(rows, 1);
    const take = (steps: number) =>
      Array.from({ length: steps * TRAINING.batchSize }, () => source.next().value);
    const warm = await trainer.train({
      adapter: initAdapter(trainer.layout, 1),
      rows: take(2),
      steps: 2,
      signal,
    });
    const steps = LOCAL_STEPS * (ROUNDS - 1);
    const { tokens, seconds } = await trainer.train({
      adapter: warm.adapter,
      rows: take(steps),
      steps,
      signal,
    });
    return tokens / seconds;
  } finally {
    await trainer.stop();
  }
}
