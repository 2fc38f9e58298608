import { type ChildProcess, spawn } from 'node:child_process';
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Random } from '../../lora/data/random.ts';
import { elementCount } from '../../lora/graph/shapes.ts';
import { llama } from '../../lora/models/families/llama.ts';
import { openModel, prepareWeights } from '../../lora/models/model.ts';
import { writeSafetensors } from '../../lora/models/safetensors-writer.ts';
import { SINGLE_FILE } from '../../lora/models/tensors.ts';
import type { BenchOptions, BenchRow } from '../bench.ts';
import type { BaseBitsStep, BaseBitsTask } from './base-bits-worker.ts';

export const name = 'base-bits';
export const about =
  'a training step of a 135M-parameter model on a base of 32, 8 and 4 bits; a minute or two';

const CONFIG = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  vocab_size: 49_152,
  hidden_size: 576,
  intermediate_size: 1536,
  num_hidden_layers: 30,
  num_attention_heads: 9,
  num_key_value_heads: 3,
  hidden_act: 'silu',
  rms_norm_eps: 1e-5,
  rope_theta: 10_000,
  max_position_embeddings: 2048,
  tie_word_embeddings: true,
};
const ROWS = 4;
const ROW_TOKENS = 128;
const STEPS = 6;
const QUICK_STEPS = 1;
/** Longest wait for one step or for a contestant to load, in milliseconds. */
const STEP_DEADLINE_MS = 120_000;
/** Speed at 8 bits and memory at 4, over those at 32. */
const SPEED_TARGET = 1.3;
const MEMORY_TARGET = 0.4;

const CONTESTANTS = [
  { bits: 32, roundActivations: true, checkpointing: false },
  { bits: 8, roundActivations: true, checkpointing: false },
  { bits: 8, roundActivations: false, checkpointing: false },
  { bits: 4, roundActivations: true, checkpointing: false },
  { bits: 32, roundActivations: true, checkpointing: true },
  { bits: 4, roundActivations: true, checkpointing: true },
] as const;

/**
 * Forward and backward of a LoRA step of a 135M-parameter Llama, 4 × 128 tokens, on random weights, taking turns step by
 * step. Speeds are compared by processor time, which other work on the machine changes least; the best step counts.
 */
export async function run(report: (row: BenchRow) => void, options: BenchOptions): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'lora-swarm-bench-'));
  const contestants: Contestant[] = [];
  try {
    const modelDir = await writeModel(folder);
    const cacheDir = join(folder, 'cache');
    const model = await openModel(modelDir);
    for (const bits of [32, 8, 4] as const) {
      const start = performance.now();
      await prepareWeights(model, cacheDir, { bits });
      options.log(`${bits} bits: prepared in ${Math.round(performance.now() - start)} ms`);
    }
    for (const contestant of CONTESTANTS) {
      const task = { ...contestant, modelDir, cacheDir, threads: availableParallelism() };
      contestants.push(new Contestant({ ...task, rows: ROWS, rowTokens: ROW_TOKENS }));
      const loaded = await contestants.at(-1)!.answer();
      options.log(`${contestants.at(-1)!.name}: ready after ${Math.round(loaded.milliseconds)} ms`);
    }
    for (let round = 0; round <= (options.quick ? QUICK_STEPS : STEPS); round++) {
      for (const contestant of contestants) {
        const { milliseconds, cpuMilliseconds, loss } = await contestant.step(round > 0);
        const [wall, cpu] = [Math.round(milliseconds), Math.round(cpuMilliseconds)];
        options.log(`${contestant.name}: ${wall} ms, ${cpu} of processor time, loss ${loss.toFixed(5)}`);
      }
    }
    for (const row of summarise(contestants)) report(row);
  } finally {
    for (const contestant of contestants) contestant.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

function summarise([full, ...others]: readonly Contestant[]): BenchRow[] {
  const row = (what: string, value: number, unit: string, target: number | null, reference: string) => {
    const met = target === null ? null : what.startsWith('memory') ? value <= target : value >= target;
    return { name: `${name}.${what}`, value, unit, target, met, reference };
  };
  const rows = [
    row('step-32', full!.cpuMilliseconds, 'ms of processor time', null, ''),
    row('peak-32', full!.peakBytes / 2 ** 20, 'MiB', null, ''),
  ];
  for (const other of others) {
    const { bits, roundActivations, checkpointing } = other.task;
    const label = `${bits}${roundActivations ? '' : '-exact'}${checkpointing ? '-checkpointing' : ''}`;
    const speed = full!.cpuMilliseconds / other.cpuMilliseconds;
    const memory = other.peakBytes / full!.peakBytes;
    const against = 'on 32 bits in the same run';
    rows.push(
      row(`speed-${label}`, speed, 'x', label === '8' ? SPEED_TARGET : null, against),
      row(`memory-${label}`, memory, 'x', label === '4' ? MEMORY_TARGET : null, against),
    );
  }
  return rows;
}

/** Uniform in ±0.035, the spread of a trained model of this size. The tokenizer is another model's: nothing is encoded. */
async function writeModel(dir: string): Promise<string> {
  const parameters = llama.parameters(llama.parseConfig(CONFIG));
  const random = new Random(1);
  const tensors = parameters.map(({ name, shape }) => {
    const data = new Float32Array(elementCount(shape));
    if (name.includes('norm')) data.fill(1);
    else for (let i = 0; i < data.length; i++) data[i] = (random.uniform() - 0.5) * 0.07;
    return { name, shape, dtype: 'F32' as const, data };
  });
  await writeFile(join(dir, 'config.json'), JSON.stringify(CONFIG));
  const tokenizer = fileURLToPath(new URL('../../models/nano/tokenizer.json', import.meta.url));
  await copyFile(tokenizer, join(dir, 'tokenizer.json'));
  await writeSafetensors(join(dir, SINGLE_FILE), tensors);
  return dir;
}

/** A process that takes one step for every line it is sent. */
class Contestant {
  readonly task: BaseBitsTask;
  readonly #steps: BaseBitsStep[] = [];
  readonly #child: ChildProcess;
  readonly #answers: AsyncIterator<string>;

  constructor(task: BaseBitsTask) {
    this.task = task;
    const script = fileURLToPath(new URL('base-bits-worker.ts', import.meta.url));
    this.#child = spawn(process.execPath, [script], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#answers = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
    this.#child.stdin!.write(`${JSON.stringify(task)}\n`);
  }

  get name(): string {
    const { bits, roundActivations, checkpointing } = this.task;
    return `${bits} bits${roundActivations ? '' : ', exact products'}${checkpointing ? ', checkpointing' : ''}`;
  }

  async step(counts: boolean): Promise<BaseBitsStep> {
    this.#child.stdin!.write('step\n');
    const step = await this.answer();
    if (counts) this.#steps.push(step);
    return step;
  }

  async answer(): Promise<BaseBitsStep> {
    const deadline = setTimeout(() => this.#child.kill('SIGKILL'), STEP_DEADLINE_MS);
    const { value, done } = await this.#answers.next();
    clearTimeout(deadline);
    if (done) throw new Error(`${this.name} ended, or took more than ${STEP_DEADLINE_MS / 1000} s`);
    return JSON.parse(value) as BaseBitsStep;
  }

  stop(): void {
    this.#child.kill('SIGKILL');
  }

  get cpuMilliseconds(): number {
    return Math.min(...this.#steps.map(({ cpuMilliseconds }) => cpuMilliseconds));
  }

  get peakBytes(): number {
    return Math.max(...this.#steps.map(({ peakBytes }) => peakBytes));
  }
}
