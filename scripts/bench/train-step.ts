import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { BenchOptions, BenchRow } from '../bench.ts';
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
  'a training step of a 135M-parameter model, beside PyTorch if it is there; --shape for others; two minutes';

interface Step {
  milliseconds: number;
  cpuMilliseconds: number;
  /** Of its matrix products; ours only. */
  flops?: number;
  loss: number;
  peakBytes: number;
}

/** Steps of each contestant that count; one more of each comes first, to warm caches and allocators. */
const STEPS = 6;
const QUICK_STEPS = 1;
/** Longest wait for one step or for a contestant to load, in milliseconds. */
const STEP_DEADLINE_MS = 300_000;

/** Targets of the engine on a processor, and for checkpointing at 1,024 tokens. */
const TARGETS = {
  overFp32: 1.5,
  overBf16: 1,
  memoryOverFp32: 0.8,
  shareOfProduct: 0.75,
  supervised: 1.2,
  checkpointingMemory: 0.6,
  checkpointingTime: 1.35,
};
/** Shorter rows have fewer activations to save: no target is set for them. */
const CHECKPOINTING_LENGTH = 1024;

/**
 * Forward and backward of a LoRA step, four rows of random tokens on random weights, for every shape that is asked for:
 * this engine as it is, on instruction data and with checkpointing, against PyTorch in fp32 and bf16, taking turns step
 * by step so that whatever else the machine does hits all alike. The best step of each counts: noise only ever adds. All
 * use the same number of threads and, where they compute the same thing in fp32, must arrive at the same loss.
 */
export async function run(report: (row: BenchRow) => void, options: BenchOptions): Promise<void> {
  for (const name of options.shapes ?? [DEFAULT_SHAPE]) {
    const shape = SHAPES.get(name);
    if (shape === undefined)
      throw new Error(`no shape is called ${name}; there are ${[...SHAPES.keys()].join(', ')}`);
    for (const row of await measure(name, shape, options)) report(row);
  }
}

async function measure(shapeName: string, shape: BenchShape, options: BenchOptions): Promise<BenchRow[]> {
  const folder = await mkdtemp(join(tmpdir(), 'lora-swarm-bench-'));
  const contestants = new Map<string, Contestant>();
  try {
    const setup = await writeSetup(join(folder, 'weights.bin'), shape, availableParallelism());
    const line = `${JSON.stringify(setup)}\n`;
    const script = (file: string) => fileURLToPath(new URL(file, import.meta.url));
    const add = (label: string, command: string, args: readonly string[]) =>
      contestants.set(label, new Contestant(label, ROWS * shape.length, command, args, line));
    for (const mode of ['product', 'full', 'supervised', 'checkpointing'])
      add(mode, process.execPath, [script('train-step-worker.ts'), mode]);
    const python = options.python ?? 'python3';
    if (await hasTorch(python)) {
      for (const precision of ['fp32', 'bf16'])
        add(`PyTorch ${precision}`, python, [script('train_step.py'), precision]);
    } else {
      options.log(`${python} has no torch: no comparison with it (--python names another one)`);
    }
    const steps = options.quick ? QUICK_STEPS : STEPS;
    for (let round = 0; round <= steps; round++) {
      for (const contestant of contestants.values()) {
        const { milliseconds, cpuMilliseconds } = await contestant.step();
        const times = `${Math.round(milliseconds)} ms, ${Math.round(cpuMilliseconds)} ms of processor time`;
        options.log(`${shapeName} ${contestant.name}: ${times}`);
        if (round === 0) contestant.steps.pop();
      }
    }
    return summarise(shapeName, shape, contestants);
  } finally {
    for (const contestant of contestants.values()) contestant.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

function summarise(
  shapeName: string,
  { length }: BenchShape,
  contestants: ReadonlyMap<string, Contestant>,
): BenchRow[] {
  const row = (what: string, value: number, unit: string, reference: string, target?: Target): BenchRow => ({
    name: `${name}.${shapeName}.${what}`,
    value,
    unit,
    target: target?.value ?? null,
    met: target === undefined ? null : target.atLeast ? value >= target.value : value <= target.value,
    reference,
  });
  const [product, full, supervised, checkpointing] = ['product', 'full', 'supervised', 'checkpointing'].map(
    (mode) => contestants.get(mode)!,
  ) as [Contestant, Contestant, Contestant, Contestant];
  const faster = (what: string, a: Contestant, b: Contestant, target?: number) =>
    row(
      what,
      b.milliseconds / a.milliseconds,
      'x',
      `${Math.round(b.milliseconds)} ms in the same run; by processor time ${(b.cpuMilliseconds / a.cpuMilliseconds).toFixed(2)} x`,
      target === undefined ? undefined : { value: target, atLeast: true },
    );
  const smaller = (what: string, a: Contestant, b: Contestant, target?: number) =>
    row(
      what,
      a.peakBytes / b.peakBytes,
      'x',
      `${mebibytes(b)} MiB in the same run`,
      target === undefined ? undefined : { value: target, atLeast: false },
    );
  const long = length >= CHECKPOINTING_LENGTH;
  const slower = checkpointing.milliseconds / full.milliseconds;
  const slowerByCpu = (checkpointing.cpuMilliseconds / full.cpuMilliseconds).toFixed(2);
  const shareByCpu = full.flopsPerCpuSecond / product.flopsPerCpuSecond;
  const rows = [
    row('speed', full.tokensPerSecond, 'tokens/s', ''),
    row(
      'share-of-product-limit',
      full.flopsPerSecond / product.flopsPerSecond,
      '',
      `${Math.round(product.flopsPerSecond / 1e9)} GFLOP/s in the same run; by processor time ${shareByCpu.toFixed(2)}`,
      { value: TARGETS.shareOfProduct, atLeast: true },
    ),
    faster(`speed-with-${SUPERVISED_SHARE}-supervised`, supervised, full, TARGETS.supervised),
    row('peak-memory', mebibytes(full), 'MiB', ''),
    smaller('checkpointing-memory', checkpointing, full, long ? TARGETS.checkpointingMemory : undefined),
    row(
      'checkpointing-time',
      slower,
      'x',
      `by processor time ${slowerByCpu} x`,
      long ? { value: TARGETS.checkpointingTime, atLeast: false } : undefined,
    ),
  ];
  const fp32 = contestants.get('PyTorch fp32');
  const bf16 = contestants.get('PyTorch bf16');
  if (!fp32 || !bf16) return rows;
  return [
    ...rows,
    faster('speed-over-pytorch-fp32', full, fp32, TARGETS.overFp32),
    faster('speed-over-pytorch-bf16', full, bf16, TARGETS.overBf16),
    smaller('memory-over-pytorch-fp32', full, fp32, TARGETS.memoryOverFp32),
    smaller('memory-over-pytorch-bf16', full, bf16),
    // Rounding in another order through all layers.
    row('loss-difference', Math.abs(full.loss - fp32.loss), 'nats', `loss ${fp32.loss}`, {
      value: 1e-4,
      atLeast: false,
    }),
  ];
}

interface Target {
  readonly value: number;
  readonly atLeast: boolean;
}

function mebibytes({ peakBytes }: Contestant): number {
  return Math.round(peakBytes / 2 ** 20);
}

/** A process that takes one step for every line it is sent. */
class Contestant {
  readonly name: string;
  readonly steps: Step[] = [];
  readonly #tokens: number;
  readonly #child: ChildProcess;
  readonly #answers: AsyncIterator<string>;

  constructor(name: string, tokens: number, command: string, args: readonly string[], setup: string) {
    this.name = name;
    this.#tokens = tokens;
    this.#child = spawn(command, args, {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, OMP_WAIT_POLICY: 'passive' },
    });
    this.#answers = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
    this.#child.stdin!.write(setup);
  }

  async step(): Promise<Step> {
    const deadline = setTimeout(() => this.#child.kill('SIGKILL'), STEP_DEADLINE_MS);
    this.#child.stdin!.write('step\n');
    const { value, done } = await this.#answers.next();
    clearTimeout(deadline);
    if (done)
      throw new Error(`${this.name} ended, or took more than ${STEP_DEADLINE_MS / 1000} s for a step`);
    const step = JSON.parse(value) as Step;
    this.steps.push(step);
    return step;
  }

  stop(): void {
    this.#child.kill('SIGKILL');
  }

  get milliseconds(): number {
    return Math.min(...this.steps.map(({ milliseconds }) => milliseconds));
  }

  get cpuMilliseconds(): number {
    return Math.min(...this.steps.map(({ cpuMilliseconds }) => cpuMilliseconds));
  }

  get tokensPerSecond(): number {
    return (this.#tokens * 1000) / this.milliseconds;
  }

  get flopsPerSecond(): number {
    return (this.steps[0]!.flops! * 1000) / this.milliseconds;
  }

  get flopsPerCpuSecond(): number {
    return (this.steps[0]!.flops! * 1000) / this.cpuMilliseconds;
  }

  get peakBytes(): number {
    return Math.max(...this.steps.map(({ peakBytes }) => peakBytes));
  }

  get loss(): number {
    return this.steps[0]!.loss;
  }
}

async function hasTorch(python: string): Promise<boolean> {
  const child = spawn(python, ['-c', 'import torch, numpy'], { stdio: 'ignore', timeout: STEP_DEADLINE_MS });
  return new Promise((resolve) => {
    child.on('error', () => resolve(false));
    child.on('exit', (code) => resolve(code === 0));
  });
}
