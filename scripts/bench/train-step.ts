import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { BenchOptions, BenchRow } from '../bench.ts';
import { Contestant } from './train-step-contestant.ts';
import {
  type BenchShape,
  DEFAULT_SHAPE,
  ROWS,
  SHAPES,
  SUPERVISED_SHARE,
  writeSetup,
} from './train-step-setup.ts';

export const name = 'train-step';
export const about =
  'time and memory of a training step of a 135M-parameter model, compared with PyTorch if it is installed; --shape chooses another model size (3 minutes)';

/** Targets for our engine on a CPU. For example, it should reach at least 1.5 times the speed of PyTorch in fp32. */
const TARGETS = {
  overFp32: 1.5,
  overBf16: 1,
  memoryOverFp32: 0.8,
  shareOfProduct: 0.75,
  supervised: 1.2,
  checkpointingMemory: 0.6,
  checkpointingTime: 1.35,
  startSeconds: 3,
  memoryMebibytes: 24 * 2 ** 10,
};
/**
 * Rows of at least this many tokens have targets for gradient checkpointing. Shorter rows have few activations to save.
 */
const CHECKPOINTING_LENGTH = 1024;
export const shapes = [...SHAPES.keys()];
/** Shape for which the start of a trainer is measured. */
const START_SHAPE = '135m-128';

/**
 * Measures the forward and backward pass of a LoRA step with four rows of random tokens and random weights, for every
 * requested shape. Our engine runs in three modes: plain, with 30 % of the tokens supervised, and with gradient
 * checkpointing. Our engine is compared with the same step in PyTorch (train_step.py) in float32 and bfloat16. The
 * contestants take turns, so that other load affects all of them equally. The fastest step counts, because other load
 * can only add time. All use the same number of threads. The loss of our engine must equal PyTorch's loss in float32.
 */
export async function run(report: (row: BenchRow) => void, options: BenchOptions): Promise<void> {
  const python = options.python ?? 'python3';
  const versions = await versionsOf(python);
  if (versions === null)
    options.log(
      `no comparison with PyTorch, because ${python} lacks torch or numpy; choose another Python with --python`,
    );
  for (const name of options.shapes ?? [DEFAULT_SHAPE]) {
    const shape = SHAPES.get(name)!;
    const reference = versions === null ? null : { python, versions };
    for (const row of await measure(name, shape, reference, options)) report(row);
  }
}

interface Reference {
  readonly python: string;
  readonly versions: string;
}

async function measure(
  shapeName: string,
  shape: BenchShape,
  reference: Reference | null,
  { quick, log }: BenchOptions,
): Promise<BenchRow[]> {
  const folder = await mkdtemp(join(tmpdir(), 'lora-swarm-bench-'));
  const contestants = new Map<string, Contestant>();
  try {
    const setup = await writeSetup(join(folder, 'weights.bin'), shape, availableParallelism());
    const line = `${JSON.stringify(setup)}\n`;
    const script = (file: string) => fileURLToPath(new URL(file, import.meta.url));
    const add = (name: string, command: string, args: readonly string[]) => {
      const ours = command === process.execPath;
      const contestant = new Contestant({ name: `${shapeName} ${name}`, command, args, ours }, line);
      contestants.set(name, contestant);
    };
    const fits = shape.model === '1b';
    for (const mode of fits ? ['full'] : ['product', 'full', 'supervised', 'checkpointing'])
      add(mode, process.execPath, [script('train-step-worker.ts'), mode]);
    if (shapeName === START_SHAPE) {
      const modelDir = join(folder, 'model');
      await mkdir(modelDir);
      add('start', process.execPath, [script('train-step-start.ts'), modelDir]);
    }
    if (reference !== null && !fits) {
      for (const precision of ['fp32', 'bf16'])
        add(`PyTorch ${precision}`, reference.python, [script('train_step.py'), precision]);
    }
    for (let turn = 0; turn < (quick ? 1 : shape.turns); turn++) {
      for (const contestant of contestants.values()) {
        if (contestant.failure === null) await contestant.turn(quick ? 1 : shape.steps, log);
      }
    }
    return summarise(shapeName, shape, contestants, reference);
  } finally {
    for (const contestant of contestants.values()) contestant.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

interface Target {
  readonly value: number;
  readonly atLeast: boolean;
}

function summarise(
  shapeName: string,
  { length }: BenchShape,
  contestants: ReadonlyMap<string, Contestant>,
  reference: Reference | null,
): BenchRow[] {
  const rows: BenchRow[] = [];
  const add = (what: string, value: number, unit: string, reference: string, target?: Target) =>
    rows.push({
      name: `${name}.${shapeName}.${what}`,
      value,
      unit,
      target: target?.value ?? null,
      met: target === undefined ? null : target.atLeast ? value >= target.value : value <= target.value,
      reference,
    });
  const atLeast = (value: number): Target => ({ value, atLeast: true });
  const atMost = (value: number): Target => ({ value, atLeast: false });
  /** Calls `compare` with the named contestants. If a contestant has failed, reports its failure instead. */
  const between = (what: string, names: readonly string[], compare: (...all: Contestant[]) => void) => {
    const all = names.map((name) => contestants.get(name));
    if (!all.every((one) => one !== undefined)) return;
    const failed = all.find(({ failure, steps }) => failure !== null && steps.length === 0);
    if (failed === undefined) compare(...all);
    else {
      const reference = `${failed.name} ${failed.failure}`;
      rows.push({
        name: `${name}.${shapeName}.${what}`,
        value: null,
        unit: '',
        target: null,
        met: null,
        reference,
      });
    }
  };
  const faster = (what: string, names: readonly [string, string], target?: Target) =>
    between(what, names, (one, other) => {
      const byCpu = (other!.cpuMilliseconds / one!.cpuMilliseconds).toFixed(2);
      const reference = `${one!.range} against ${other!.range}; by processor time ${byCpu} x`;
      add(what, other!.milliseconds / one!.milliseconds, 'x', reference, target);
    });
  const smaller = (what: string, names: readonly [string, string], target?: Target) =>
    between(what, names, (one, other) => {
      const reference = `${one!.mebibytes} against ${other!.mebibytes} MiB`;
      add(what, one!.mebibytes / other!.mebibytes, 'x', reference, target);
    });

  between('speed', ['full'], (full) => {
    add('speed', (ROWS * length * 1000) / full!.milliseconds, 'tokens/s', full!.range);
    const memory = `of ${Math.round(totalmem() / 2 ** 20)} in this machine`;
    const target = contestants.size === 1 ? atMost(TARGETS.memoryMebibytes) : undefined;
    add('peak-memory', full!.mebibytes, 'MiB', memory, target);
  });
  between('share-of-product-limit', ['full', 'product'], (full, product) => {
    const byCpu = (full!.flopsPerCpuSecond / product!.flopsPerCpuSecond).toFixed(2);
    const limit = `${Math.round(product!.flopsPerSecond / 1e9)} GFLOP/s in the same run; by processor time ${byCpu}`;
    const share = full!.flopsPerSecond / product!.flopsPerSecond;
    add('share-of-product-limit', share, '', limit, atLeast(TARGETS.shareOfProduct));
  });
  faster(`speed-with-${SUPERVISED_SHARE}-supervised`, ['supervised', 'full'], atLeast(TARGETS.supervised));
  const long = length >= CHECKPOINTING_LENGTH;
  smaller(
    'checkpointing-memory',
    ['checkpointing', 'full'],
    long ? atMost(TARGETS.checkpointingMemory) : undefined,
  );
  between('checkpointing-time', ['checkpointing', 'full'], (one, full) => {
    const byCpu = (one!.cpuMilliseconds / full!.cpuMilliseconds).toFixed(2);
    const reference = `${one!.range} against ${full!.range}; by processor time ${byCpu} x`;
    const slower = one!.milliseconds / full!.milliseconds;
    add('checkpointing-time', slower, 'x', reference, long ? atMost(TARGETS.checkpointingTime) : undefined);
  });
  between('start-to-first-step', ['start'], (start) => {
    const reference = `includes the step, but not the preparation of the weights; ${start!.range}`;
    add('start-to-first-step', start!.milliseconds / 1000, 's', reference, atMost(TARGETS.startSeconds));
  });
  if (reference === null) return rows;
  faster('speed-over-pytorch-fp32', ['full', 'PyTorch fp32'], atLeast(TARGETS.overFp32));
  faster('speed-over-pytorch-bf16', ['full', 'PyTorch bf16'], atLeast(TARGETS.overBf16));
  smaller('memory-over-pytorch-fp32', ['full', 'PyTorch fp32'], atMost(TARGETS.memoryOverFp32));
  smaller('memory-over-pytorch-bf16', ['full', 'PyTorch bf16']);
  between('loss-difference', ['full', 'PyTorch fp32'], (full, fp32) => {
    const what = `loss ${fp32!.loss}; ${reference.versions}`;
    // In every layer, the two programs add terms in different orders. The limit allows for the difference in rounding.
    add('loss-difference', Math.abs(full!.loss - fp32!.loss), 'nats', what, atMost(1e-4));
  });
  return rows;
}

/**
 * Returns the versions of torch and numpy as a text such as "torch 2.15.0, numpy 2.4.0". Returns null if
 * Python or one of the two packages is missing.
 */
async function versionsOf(python: string): Promise<string | null> {
  const code =
    'import numpy, torch; print(*(f"{m.__name__} {m.__version__}" for m in (torch, numpy)), sep=", ")';
  return new Promise((resolve) => {
    execFile(python, ['-c', code], (error, stdout) => resolve(error === null ? stdout.trim() : null));
  });
}
