import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Layer } from '../lora/finetune/settings.ts';
import { isAllLinear } from '../lora/models/targets.ts';
import { loraSchema, trainingSchema } from '../protocol/manifest.ts';
import { collect, integer, number } from './options.ts';

/** Flags of the adapter, by commander's names. Flags that are not given are undefined. */
export interface AdapterFlags {
  rank?: number;
  alpha?: number;
  target?: string[];
  exclude?: string[];
  layer?: number[];
  rankPattern?: [string, number][];
  alphaPattern?: [string, number][];
  rslora?: boolean;
  dora?: boolean;
  dropout?: number;
  saveModule?: string[];
  bias?: string;
  freezeA?: boolean;
  init?: string;
}

/** Flags of the training, by commander's names. Flags that are not given are undefined. */
export interface OptimizerFlags {
  learningRate?: number;
  schedule?: string;
  finalFraction?: number;
  warmup?: number;
  warmupRatio?: number;
  betas?: [number, number];
  epsilon?: number;
  weightDecay?: number;
  decayGroup?: string[];
  loraPlus?: number;
  neftune?: number;
  labelSmoothing?: number;
  clipNorm?: number;
  batchSize?: number;
  microBatch?: number;
  sequenceLength?: number;
}

const lora = loraSchema.parse({});
const training = trainingSchema.parse({});

/**
 * Adds the flags of the adapter. Their defaults are a job's, and apply only where no config file or preset sets a
 * value.
 */
export function addAdapterOptions(command: Command): Command {
  return command
    .optionsGroup('Adapter:')
    .option('--rank <r>', `LoRA rank (default: ${lora.rank})`, integer(1, 1024))
    .option('--alpha <number>', 'scale of the adapter: alpha / rank (default: 2 × rank)', number(1e-6))
    .option(
      '--target <module>',
      'name of the modules to adapt, repeatable; or a regular expression for full names (default: all-linear)',
      collect,
    )
    .option(
      '--exclude <module>',
      'name of modules not to adapt, repeatable; or a regular expression for full names',
      collect,
    )
    .option('--layer <number>', 'number of a block to adapt, from 0; repeatable (default: all)', numbers)
    .option('--rank-pattern <pattern=r>', 'rank of the modules that match the pattern; repeatable', pattern)
    .option('--alpha-pattern <pattern=a>', 'alpha of the modules that match the pattern; repeatable', pattern)
    .option('--rslora', 'scale the adapter by alpha / √rank instead (rsLoRA)')
    .option('--dora', 'train direction and magnitude separately (DoRA)')
    .option(
      '--dropout <share>',
      `dropout: share of the adapter's inputs set to zero during training (default: ${lora.dropout})`,
      number(0, 0.999),
    )
    .option(
      '--save-module <module>',
      'name of a module to train whole and save in the adapter; repeatable',
      collect,
    )
    .addOption(
      choice('--bias <which>', `biases to train (default: ${lora.bias})`, ['none', 'all', 'lora_only']),
    )
    .option('--freeze-a', 'train only B, and keep A at its initial values')
    .addOption(
      choice('--init <how>', 'distribution of the initial A (default: uniform)', ['uniform', 'gaussian']),
    );
}

/** Adds the flags of batch and optimiser. Their defaults apply as those of the adapter do. */
export function addOptimizerOptions(command: Command): Command {
  return command
    .optionsGroup('Batch and optimiser:')
    .option(
      '--learning-rate <rate>',
      `peak learning rate of AdamW (default: ${training.learningRate})`,
      number(1e-12, 1),
    )
    .addOption(
      choice('--schedule <name>', `learning rate after the warm-up (default: ${training.schedule})`, [
        'constant',
        'linear',
        'cosine',
      ]),
    )
    .option(
      '--final-fraction <share>',
      `last learning rate of linear and cosine, as a share of the peak (default: ${training.finalFraction})`,
      number(0, 1),
    )
    .option(
      '--warmup <steps>',
      `steps in which the learning rate rises to its peak (default: ${training.warmupSteps})`,
      integer(0, 1_000_000),
    )
    .addOption(
      new Option('--warmup-ratio <share>', 'warm-up as a share of all steps, instead of --warmup')
        .argParser(number(0, 1))
        .conflicts('warmup'),
    )
    .option(
      '--batch-size <rows>',
      `rows of one optimiser step (default: ${training.batchSize})`,
      integer(1, 4096),
    )
    .addOption(
      new Option(
        '--micro-batch <rows>',
        'rows that pass through the model at once: fewer need less memory, with the same result (default: the batch size, or an equal share for each of several devices)',
      )
        .argParser(integer(1, 4096))
        .helpGroup('Compute and memory:'),
    )
    .addOption(
      new Option('--sequence-length <tokens>', `tokens of a row (default: ${training.sequenceLength})`)
        .argParser(integer(8, 131072))
        .helpGroup('Data:'),
    )
    .option('--weight-decay <rate>', `weight decay of AdamW (default: ${training.weightDecay})`, number(0, 1))
    .addOption(
      new Option(
        '--decay-group <group>',
        `parameter group with weight decay: A, B, magnitude or saved; repeatable (default: ${training.weightDecayGroups.join(', ')})`,
      ).argParser(collect),
    )
    .option('--betas <b1,b2>', `β₁ and β₂ of AdamW (default: ${training.betas.join(',')})`, pairOfNumbers)
    .option('--epsilon <number>', `ε of AdamW (default: ${training.epsilon})`, number(Number.MIN_VALUE, 1))
    .option(
      '--clip-norm <norm>',
      `gradients with a larger norm are scaled down to it (default: ${training.clipNorm})`,
      number(1e-9, 1e6),
    )
    .option(
      '--lora-plus <ratio>',
      `LoRA+: learning rate of B as a multiple of A's (default: ${training.loraPlusRatio})`,
      number(1e-3, 1000),
    )
    .option(
      '--neftune <alpha>',
      `NEFTune: α of the noise on the embeddings, usually 5 (default: ${training.neftuneAlpha})`,
      number(0, 1000),
    )
    .option(
      '--label-smoothing <share>',
      `share of each target spread evenly over the vocabulary (default: ${training.labelSmoothing})`,
      number(0, 0.999),
    );
}

export function adapterLayer(flags: AdapterFlags): NonNullable<Layer['lora']> {
  return {
    rank: flags.rank,
    alpha: flags.alpha,
    targets: namesOrPattern(flags.target),
    excludeModules: namesOrPattern(flags.exclude),
    layersToTransform: flags.layer,
    rankPattern: flags.rankPattern,
    alphaPattern: flags.alphaPattern,
    useRslora: flags.rslora,
    useDora: flags.dora,
    dropout: flags.dropout,
    modulesToSave: flags.saveModule,
    bias: flags.bias,
    freezeA: flags.freezeA,
    initLoraWeights: flags.init === 'uniform' ? true : flags.init,
  };
}

export function optimizerLayer(flags: OptimizerFlags): NonNullable<Layer['training']> {
  return {
    learningRate: flags.learningRate,
    schedule: flags.schedule,
    finalFraction: flags.finalFraction,
    warmupSteps: flags.warmup,
    // --warmup overrides warmupRatio in the config file.
    warmupRatio: flags.warmupRatio ?? (flags.warmup === undefined ? undefined : null),
    betas: flags.betas,
    epsilon: flags.epsilon,
    weightDecay: flags.weightDecay,
    weightDecayGroups: flags.decayGroup,
    loraPlusRatio: flags.loraPlus,
    neftuneAlpha: flags.neftune,
    labelSmoothing: flags.labelSmoothing,
    clipNorm: flags.clipNorm,
    batchSize: flags.batchSize,
    microBatch: flags.microBatch,
    sequenceLength: flags.sequenceLength,
  };
}

/** Tells a pattern from a name by its characters. PEFT tells them apart by whether they are in a list. */
function namesOrPattern(values: string[] | undefined): string | string[] | undefined {
  const [only, ...more] = values ?? [];
  const isPattern = only !== undefined && more.length === 0 && (isAllLinear(only) || !/^[\w.]+$/.test(only));
  return isPattern ? only : values;
}

export function choice(flags: string, description: string, choices: readonly string[]): Option {
  return new Option(flags, description).choices(choices);
}

function numbers(text: string, earlier: number[] = []): number[] {
  return [...earlier, integer(0, 1023)(text)];
}

/** Parses PATTERN=NUMBER at the last "=", because a pattern can contain one too. */
function pattern(text: string, earlier: [string, number][] = []): [string, number][] {
  const at = text.lastIndexOf('=');
  if (at < 1) throw new InvalidArgumentError('Use PATTERN=NUMBER.');
  return [...earlier, [text.slice(0, at), number(1e-6)(text.slice(at + 1))]];
}

function pairOfNumbers(text: string): [number, number] {
  const parts = text.split(',').map((part) => number(0, 1 - Number.EPSILON)(part));
  if (parts.length !== 2) throw new InvalidArgumentError('Use two numbers: 0.9,0.95.');
  return parts as [number, number];
}
