import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { openBase } from '../../lora/models/base/base-model.ts';
import { prepareWeights } from '../../lora/models/weights/prepare-weights.ts';
import type { BenchOptions, BenchRow } from '../bench.ts';
import { writeRandomModel } from './base-bits-model.ts';
import type { BaseBitsStep, BaseBitsTask } from './base-bits-worker.ts';
import { DEFAULT_SHAPE, type MODELS, ROWS } from './train-step-setup.ts';

export const name = 'base-bits';
export const about =
  'time and memory of a training step of a 135M-parameter model with 32, 8 and 4 base bits; --shape chooses another model size (2 minutes)';

type Contender = Pick<BaseBitsTask, 'bits' | 'checkpointing'>;

interface Shape {
  readonly model: keyof typeof MODELS;
  readonly rowTokens: number;
  readonly contenders: readonly Contender[];
  /** Number of measured steps of each contestant. If it is above 1, an unmeasured warm-up step comes first. */
  readonly steps: number;
}

const ALL: readonly Contender[] = [
  { bits: 32, checkpointing: false },
  { bits: 8, checkpointing: false },
  { bits: 4, checkpointing: false },
  { bits: 32, checkpointing: true },
  { bits: 4, checkpointing: true },
];
const SHAPES: ReadonlyMap<string, Shape> = new Map<string, Shape>([
  ['135m-128', { model: '135m', rowTokens: 128, contenders: ALL, steps: 6 }],
  ['135m-512', { model: '135m', rowTokens: 512, contenders: ALL, steps: 3 }],
  ['0.5b-128', { model: '0.5b', rowTokens: 128, contenders: ALL, steps: 3 }],
  // This shape only shows whether a step fits into memory.
  ['1b-128', { model: '1b', rowTokens: 128, contenders: [{ bits: 4, checkpointing: true }], steps: 1 }],
]);
export const shapes = [...SHAPES.keys()];
/** Maximum time in which a contestant must load or take one step, in milliseconds. */
const STEP_DEADLINE_MS = 300_000;
/** Minimum speed at 8 bits, relative to the speed at 32 bits. */
const SPEED_TARGET = 1.3;
/** Maximum memory at 4 bits, relative to the memory at 32 bits. */
const MEMORY_TARGET = 0.4;
/** Maximum memory of a step of the model with a billion parameters, in GiB. */
const BILLION_TARGET = 4;

/**
 * Measures the forward and backward pass of a LoRA step (r = 16 on all linear modules) with four rows of random tokens and
 * random weights. The contestants take turns, one step each. The fastest step counts, because other programs can only add
 * time.
 */
export async function run(report: (row: BenchRow) => void, options: BenchOptions): Promise<void> {
  for (const name of options.shapes ?? [DEFAULT_SHAPE]) {
    const shape = SHAPES.get(name)!;
    for (const row of await measure(name, shape, options)) report(row);
  }
}

async function measure(shapeName: string, shape: Shape, options: BenchOptions): Promise<BenchRow[]> {
  const folder = await mkdtemp(join(tmpdir(), 'lora-swarm-bench-'));
  const contestants: Contestant[] = [];
  try {
    const modelDir = await writeRandomModel(folder, shape.model);
    const cacheDir = join(folder, 'cache');
    const model = await openBase(modelDir);
    for (const bits of new Set(shape.contenders.map((contender) => contender.bits))) {
      const start = performance.now();
      await prepareWeights(model, cacheDir, { bits });
      options.log(`${shapeName} ${bits} bits: prepared in ${Math.round(performance.now() - start)} ms`);
    }
    for (const contender of shape.contenders) {
      const { rowTokens } = shape;
      const task = {
        ...contender,
        modelDir,
        cacheDir,
        threads: availableParallelism(),
        rows: ROWS,
        rowTokens,
      };
      contestants.push(new Contestant(task));
      await contestants.at(-1)!.answer();
    }
    const steps = options.quick ? 1 : shape.steps;
    for (let step = steps === 1 ? 1 : 0; step <= steps; step++) {
      for (const contestant of contestants) {
        const { milliseconds, loss } = await contestant.step(step > 0);
        options.log(
          `${shapeName} ${contestant.name}: ${Math.round(milliseconds)} ms, loss ${loss.toFixed(5)}`,
        );
      }
    }
    return summarise(shapeName, contestants);
  } finally {
    for (const contestant of contestants) contestant.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

function summarise(shapeName: string, contestants: readonly Contestant[]): BenchRow[] {
  const row = (what: string, value: number, unit: string, reference = ''): BenchRow => ({
    name: `${name}.${shapeName}.${what}`,
    value,
    unit,
    target: null,
    met: null,
    reference,
  });
  const full = contestants.find(({ name }) => name === '32');
  const rows = contestants.flatMap((one) => [
    row(`step-${one.name}`, one.milliseconds, 'ms'),
    row(`peak-${one.name}`, one.peakBytes / 2 ** 30, 'GiB'),
  ]);
  if (full === undefined) {
    return rows.map((row) =>
      row.unit === 'GiB' ? { ...row, target: BILLION_TARGET, met: row.value! <= BILLION_TARGET } : row,
    );
  }
  for (const other of contestants) {
    if (other === full) continue;
    const faster = full.milliseconds / other.milliseconds;
    const cpu = `by processor time ${(full.cpuMilliseconds / other.cpuMilliseconds).toFixed(2)} x`;
    const speed = row(`speed-${other.name}`, faster, 'x', `against 32 bits in the same run; ${cpu}`);
    const less = other.peakBytes / full.peakBytes;
    const memory = row(`memory-${other.name}`, less, 'x', 'peak, relative to 32 bits');
    rows.push(
      other.name === '8' ? { ...speed, target: SPEED_TARGET, met: faster >= SPEED_TARGET } : speed,
      other.task.bits === 4 ? { ...memory, target: MEMORY_TARGET, met: less <= MEMORY_TARGET } : memory,
    );
  }
  return rows;
}

/** A process that takes one step for every line that it receives. */
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
    return `${this.task.bits}${this.task.checkpointing ? '-checkpointing' : ''}`;
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

  get milliseconds(): number {
    return Math.min(...this.#steps.map(({ milliseconds }) => milliseconds));
  }

  get cpuMilliseconds(): number {
    return Math.min(...this.#steps.map(({ cpuMilliseconds }) => cpuMilliseconds));
  }

  get peakBytes(): number {
    return Math.max(...this.#steps.map(({ peakBytes }) => peakBytes));
  }
}
