import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { BenchOptions, BenchRow } from '../bench.ts';
import { ROW_TOKENS, ROWS, writeSetup } from './train-step-setup.ts';

export const name = 'train-step';
export const about =
  'a training step of a 135M-parameter model, beside PyTorch if it is there; a minute or two';

interface Step {
  milliseconds: number;
  loss: number;
  peakBytes: number;
}

/** Steps of each contestant that count; one more of each comes first, to warm caches and allocators. */
const STEPS = 6;
const QUICK_STEPS = 1;
/** Longest wait for one step or for a contestant to load, in milliseconds. */
const STEP_DEADLINE_MS = 120_000;
/** What DESIGN.md section 4 gives for the prototype's graph, in tokens per second (its best step, 2,340 ms). */
const PROTOTYPE_TOKENS_PER_SECOND = 219;

/**
 * Forward and backward of a LoRA step of a 135M-parameter Llama, 4 × 128 tokens, on random weights: this engine
 * against PyTorch in fp32 and bf16, taking turns step by step so that whatever else the machine does hits all alike.
 * The best step of each counts: noise only ever adds. All use the same number of threads and, but for bf16, must
 * arrive at the same loss.
 */
export async function run(report: (row: BenchRow) => void, options: BenchOptions): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'lora-swarm-bench-'));
  const contestants: Contestant[] = [];
  try {
    const setup = await writeSetup(join(folder, 'weights.bin'), availableParallelism());
    const line = `${JSON.stringify(setup)}\n`;
    const script = (file: string) => fileURLToPath(new URL(file, import.meta.url));
    contestants.push(new Contestant('onnx-cpu', process.execPath, [script('train-step-worker.ts')], line));
    const python = options.python ?? 'python3';
    if (await hasTorch(python)) {
      for (const precision of ['fp32', 'bf16']) {
        const args = [script('train_step.py'), precision];
        contestants.push(new Contestant(`PyTorch ${precision}`, python, args, line));
      }
    } else {
      options.log(
        `${python} has no torch: comparing with the prototype's figure (--python names another one)`,
      );
    }
    const steps = options.quick ? QUICK_STEPS : STEPS;
    for (let round = 0; round <= steps; round++) {
      for (const contestant of contestants) {
        const step = await contestant.step();
        options.log(`${contestant.name}: ${Math.round(step.milliseconds)} ms, loss ${step.loss.toFixed(5)}`);
        if (round === 0) contestant.steps.pop();
      }
    }
    for (const row of summarise(contestants)) report(row);
  } finally {
    for (const contestant of contestants) contestant.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

function summarise([ours, fp32, bf16]: readonly Contestant[]): BenchRow[] {
  const row = (
    what: string,
    value: number,
    unit: string,
    target: number | null,
    reference: string,
  ): BenchRow => {
    const met =
      target === null
        ? null
        : unit === 'nats' || what.startsWith('memory')
          ? value <= target
          : value >= target;
    return { name: `${name}.${what}`, value, unit, target, met, reference };
  };
  const speed = ours!.tokensPerSecond;
  const memory = ours!.peakBytes;
  if (!fp32 || !bf16) {
    const ratio = speed / PROTOTYPE_TOKENS_PER_SECOND;
    return [
      row('speed', speed, 'tokens/s', null, ''),
      row(
        'speed-over-prototype',
        ratio,
        'x',
        1.2,
        `${PROTOTYPE_TOKENS_PER_SECOND} tokens/s, another machine`,
      ),
      row('peak-memory', memory / 2 ** 20, 'MiB', null, ''),
    ];
  }
  const against = (other: Contestant) => `${Math.round(other.tokensPerSecond)} tokens/s in the same run`;
  return [
    row('speed', speed, 'tokens/s', null, ''),
    row('speed-over-pytorch-fp32', speed / fp32.tokensPerSecond, 'x', 1.2, against(fp32)),
    row('speed-over-pytorch-bf16', speed / bf16.tokensPerSecond, 'x', null, against(bf16)),
    row('peak-memory', memory / 2 ** 20, 'MiB', null, ''),
    row('memory-over-pytorch-fp32', memory / fp32.peakBytes, 'x', 1, mebibytes(fp32)),
    row('memory-over-pytorch-bf16', memory / bf16.peakBytes, 'x', null, mebibytes(bf16)),
    // Rounding in another order through 30 layers.
    row('loss-difference', Math.abs(ours!.loss - fp32.loss), 'nats', 1e-4, `loss ${fp32.loss}`),
  ];
}

function mebibytes({ peakBytes }: Contestant): string {
  return `${Math.round(peakBytes / 2 ** 20)} MiB in the same run`;
}

/** A process that takes one step for every line it is sent. */
class Contestant {
  readonly name: string;
  readonly steps: Step[] = [];
  readonly #child: ChildProcess;
  readonly #answers: AsyncIterator<string>;

  constructor(name: string, command: string, args: readonly string[], setup: string) {
    this.name = name;
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

  get tokensPerSecond(): number {
    return (ROWS * ROW_TOKENS * 1000) / Math.min(...this.steps.map(({ milliseconds }) => milliseconds));
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
