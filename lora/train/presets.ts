/**
 * Presets: settings chosen for a model and its data, each with a reason and a source. They are rules of thumb, not
 * optima; docs/training.md explains them.
 */
import { countOf } from '../../common/text.ts';
import { shareBatch } from './devices/shared-batch.ts';

export const PRESETS = ['auto', 'quick', 'thorough'] as const;
/** Name of a preset of settings. */
export type PresetName = (typeof PRESETS)[number];

export interface ModelFacts {
  /** transformers' `model_type`. */
  readonly family: string;
  /** Width of the hidden states. */
  readonly hiddenSize: number;
  readonly maxPositions: number;
  /** Number of values that each unit of rank adds to the adapter. */
  readonly parametersPerRank: number;
}

export interface DataFacts {
  /** Number of supervised tokens of the whole data, estimated from a sample. */
  readonly tokens: number;
  /** 95 % of the samples have at most this many tokens. */
  readonly commonLength: number;
  /** Whether all samples are plain text, which is cut into rows. Samples of other kinds should fit into one row. */
  readonly plainText: boolean;
  readonly heldOut: boolean;
  /** Estimates how many rows of this length the data fills. */
  rows(sequenceLength: number): number;
}

/** Settings given by the user. The preset chooses the remaining settings to match them. */
export interface Given {
  readonly rank?: number;
  readonly batchSize?: number;
  readonly microBatch?: number;
  readonly sequenceLength?: number;
  readonly epochs?: number;
  readonly steps?: number;
}

export interface PresetInput {
  readonly model: ModelFacts;
  readonly data: DataFacts;
  readonly given: Given;
  /** Number of devices that share each batch. @default 1 */
  readonly devices?: number;
  /** Returns whether training with an adapter of this rank and micro-batches of this size fits into memory. */
  fits(size: { microBatch: number; sequenceLength: number; rank: number }): boolean;
}

/** A setting that a preset chose, and why. */
export interface Choice {
  /** Name of the setting, as in a config file: "lora.rank". */
  readonly field: string;
  readonly value: number | string;
  readonly why: string;
  readonly source: string;
}

interface Recipe {
  readonly minRank: number;
  readonly maxRank: number;
  readonly batchSize: number;
  readonly textLength: number;
  readonly warmupRatio: number;
  readonly epochs: number;
  readonly maxSteps: number;
  /** Number of times that the held-out loss is measured during a run. */
  readonly evaluations: number;
  readonly patience: number | null;
}

const RECIPES: Readonly<Record<PresetName, Recipe>> = {
  auto: {
    minRank: 16,
    maxRank: 64,
    batchSize: 16,
    textLength: 512,
    warmupRatio: 0.05,
    epochs: 3,
    maxSteps: Number.POSITIVE_INFINITY,
    evaluations: 10,
    patience: null,
  },
  quick: {
    minRank: 8,
    maxRank: 8,
    batchSize: 8,
    textLength: 256,
    warmupRatio: 0.1,
    epochs: 1,
    maxSteps: 100,
    evaluations: 4,
    patience: null,
  },
  thorough: {
    minRank: 32,
    maxRank: 256,
    batchSize: 16,
    textLength: 1024,
    warmupRatio: 0.05,
    epochs: 3,
    maxSteps: Number.POSITIVE_INFINITY,
    evaluations: 20,
    patience: 4,
  },
};

/** With at least this many tokens, one pass over the data is enough. With fewer, the preset's `epochs` applies. */
const MANY_TOKENS = 1_000_000;
/**
 * Number of steps below which a preset chooses smaller batches. Fewer steps teach little, however large the batches
 * are.
 */
const MIN_STEPS = 50;
/** Maximum steps of a short run. A short run tolerates a higher learning rate. */
const SHORT_RUN_STEPS = 100;
const MAX_LENGTH = 2048;

/**
 * Exponents in the learning-rate formula of the Tinker cookbook (see `rateForWidth`), by model family. All
 * other families get CAUTIOUS_EXPONENT, which gives models with a hidden size below 2,000 a lower rate.
 */
const WIDTH_EXPONENT: Readonly<Record<string, number>> = { llama: 0.781, mistral: 0.781 };
const CAUTIOUS_EXPONENT = 0.0775;

const NO_REGRET = '"LoRA Without Regret" (Schulman et al. 2025)';
const TINKER = 'Tinker cookbook, hyperparam_utils';

/**
 * Returns the learning rate of LoRA with α = 32 for a width of the model: 5e-5 × 10 × (2000 / width)^exponent (Tinker
 * cookbook, Thinking Machines 2025). The factor is 10 because LoRA tolerates ten times the rate of full fine-tuning.
 * @returns the rate, rounded to two significant digits
 */
export function rateForWidth(family: string, hiddenSize: number): number {
  const exponent = WIDTH_EXPONENT[family] ?? CAUTIOUS_EXPONENT;
  return Number((5e-4 * (2000 / hiddenSize) ** exponent).toPrecision(2));
}

/** Chooses the settings of a preset, in an order in which each choice may depend on earlier choices. */
export function choosePreset(name: PresetName, input: PresetInput): Choice[] {
  const { model, data, given, devices = 1, fits } = input;
  const recipe = RECIPES[name];
  const choices: Choice[] = [];
  const choose = <T extends number | string>(field: string, value: T, why: string, source: string): T => {
    choices.push({ field, value, why, source });
    return value;
  };

  const rank = given.rank ?? choose('lora.rank', ...rankFor(recipe, model, data));
  choose('lora.alpha', 32, 'with a fixed alpha, the best rate depends little on the rank', NO_REGRET);
  const sequenceLength =
    given.sequenceLength ?? choose('training.sequenceLength', ...lengthFor(recipe, model, data));
  const rows = Math.max(1, data.rows(sequenceLength));
  const epochs = given.epochs ?? (data.tokens < MANY_TOKENS ? recipe.epochs : 1);
  const batchSize = given.batchSize ?? choose('training.batchSize', ...batchFor(recipe, rows * epochs));
  const whole = Math.ceil(Math.max(1, Math.round(rows * epochs)) / batchSize);
  const long = given.epochs === undefined ? Math.min(recipe.maxSteps, whole) : whole;
  const steps = given.steps ?? long;
  const open = given.steps === undefined && given.epochs === undefined;
  const capped = open && steps < whole;
  if (capped) {
    choose('run.steps', steps, 'enough to see whether the model learns', "lora-swarm's own rule");
  } else if (open) {
    const passes = epochs === 1 ? 'one pass' : 'several passes';
    const enough = data.tokens >= MANY_TOKENS ? ', which is enough' : '';
    const why = `${passes} over ${about(data.tokens)} tokens${enough}`;
    choose('run.epochs', epochs, why, "transformers' default is 3");
  }
  if (given.microBatch === undefined) {
    const size = { sequenceLength, rank };
    const fit = (microBatch: number): boolean => fits({ ...size, microBatch });
    choose('training.microBatch', ...microBatchFor(batchSize, devices, fit));
  }
  // Without a number of steps, the number follows from the rows, which are only estimated here.
  const isExact = given.steps !== undefined || capped;
  choose('training.learningRate', ...rateFor(model, steps, isExact));
  choose(
    'training.schedule',
    'cosine',
    'the rate falls to a tenth, which steadies the last steps',
    'axolotl, LLaMA-Factory, torchtune',
  );
  choose(
    'training.warmupRatio',
    recipe.warmupRatio,
    'a share of all steps',
    'usual values are 0.03 (QLoRA) to 0.1 (axolotl)',
  );
  if (data.heldOut) {
    const every = Math.max(1, Math.floor(steps / recipe.evaluations));
    choose(
      'run.evaluateEvery',
      every,
      `${recipe.evaluations} measurements per run; the best adapter is kept`,
      "lora-swarm's own rule",
    );
    if (recipe.patience !== null) {
      choose(
        'run.patience',
        recipe.patience,
        'stops when the loss no longer improves',
        "lora-swarm's own rule",
      );
    }
  }
  return choices;
}

type Chosen<T> = [value: T, why: string, source: string];

function rankFor({ minRank, maxRank }: Recipe, model: ModelFacts, data: DataFacts): Chosen<number> {
  let rank = minRank;
  while (rank < maxRank && rank * model.parametersPerRank < data.tokens) rank *= 2;
  const size = `${about(rank * model.parametersPerRank)} adapter parameters for ${about(data.tokens)} tokens`;
  return [rank, size, `${NO_REGRET}: at least one parameter per token`];
}

function lengthFor({ textLength }: Recipe, model: ModelFacts, data: DataFacts): Chosen<number> {
  const most = Math.min(MAX_LENGTH, model.maxPositions);
  if (data.plainText) {
    return [
      Math.min(textLength, most),
      'plain text, cut into rows',
      'the cost of attention grows with the square of the length',
    ];
  }
  let length = Math.min(128, most);
  while (length < data.commonLength && length < most) length = Math.min(most, length * 2);
  return [
    length,
    `95 % of the samples have at most ${about(data.commonLength)} tokens`,
    'measured on a sample',
  ];
}

function batchFor({ batchSize }: Recipe, rows: number): Chosen<number> {
  let size = batchSize;
  while (size > 1 && rows / size < MIN_STEPS) size /= 2;
  const why =
    size === batchSize
      ? 'LoRA learns worse with large batches'
      : `so that ${about(rows)} rows give ${rows < MIN_STEPS ? 'as many steps as possible' : `at least ${MIN_STEPS} steps`}`;
  return [size, why, `${NO_REGRET}: fewer than 32 rows`];
}

function microBatchFor(batchSize: number, devices: number, fits: (rows: number) => boolean): Chosen<number> {
  const { microBatch: most, reason } = shareBatch({ batchSize, microBatch: batchSize }, devices);
  let rows = most;
  while (rows > 1 && !fits(rows)) rows = Math.ceil(rows / 2);
  if (rows === most && reason !== null)
    return [rows, reason, "lora-swarm's own rule; the result is the same"];
  const why = rows === most ? 'the whole batch fits into memory' : 'as many rows as fit into memory';
  return [rows, why, 'estimated from the graph; the result is the same'];
}

function rateFor({ family, hiddenSize }: ModelFacts, steps: number, isExact: boolean): Chosen<number> {
  const rate = rateForWidth(family, hiddenSize);
  const width = `${family} of width ${hiddenSize}`;
  if (steps > SHORT_RUN_STEPS) return [rate, width, TINKER];
  const higher = Number((1.5 * rate).toPrecision(2));
  const length = `${isExact ? '' : 'about '}${countOf(steps, 'step')}`;
  return [higher, `${width}, times 1.5 for a short run of ${length}`, `${TINKER}; ${NO_REGRET}`];
}

function about(count: number): string {
  if (count < 1e3) return String(count);
  const [value, unit] = count < 1e6 ? [count / 1e3, 'k'] : [count / 1e6, 'M'];
  return `${Number(value.toPrecision(3))}${unit}`;
}
