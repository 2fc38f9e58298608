import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Layer } from '../../lora/finetune/settings/settings.ts';
import { isAllLinear } from '../../lora/models/targets.ts';
import { loraSchema, trainingSchema } from '../../protocol/job/manifest.ts';
import { collect, integer, number } from './common.ts';

/** Flags of the adapter, named as commander names them. A flag that is not given is undefined. */
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

/** Flags of batch and optimiser, named as commander names them. A flag that is not given is undefined. */
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

/** Adds the flags of the adapter. A default in their help applies only if neither a config file nor a preset sets a value. */
export function addAdapterOptions(command: Command): Command {
  return command
    .optionsGroup('Adapter:')
    .option('--rank <r>', `rank r of the LoRA matrices (default: ${lora.rank})`, integer(1, 1024))
    .option(
      '--alpha <number>',
      'LoRA alpha: the adapter is scaled by alpha / rank (default: 2 × rank)',
      number(1e-6),
    )
    .option(
      '--target <module>',
      'name of the modules to adapt, such as q_proj, repeatable; or one regular expression that matches whole module paths (default: all-linear, every linear module except the output head)',
      collect,
    )
    .option(
      '--exclude <module>',
      'name of modules not to adapt, repeatable; or one regular expression that matches whole module paths (default: none)',
      collect,
    )
    .option(
      '--layer <number>',
      'index of a transformer block to adapt, from 0; repeatable (default: all blocks)',
      numbers,
    )
    .option(
      '--rank-pattern <pattern=r>',
      'rank of the modules whose path ends in the pattern, such as q_proj=4; repeatable',
      pattern,
    )
    .option(
      '--alpha-pattern <pattern=a>',
      'alpha of the modules whose path ends in the pattern, such as q_proj=8; repeatable',
      pattern,
    )
    .option('--rslora', 'rsLoRA: scale the adapter by alpha / √rank instead of alpha / rank')
    .option('--dora', 'DoRA: train direction and magnitude of the weights separately')
    .option(
      '--dropout <fraction>',
      `dropout: fraction of the adapter's inputs that a training step sets to zero (default: ${lora.dropout})`,
      number(0, 0.999),
    )
    .option(
      '--save-module <module>',
      'name of a module to train as a whole, without LoRA, and to save in the adapter; repeatable (default: none)',
      collect,
    )
    .addOption(
      choice(
        '--bias <which>',
        `biases to train: none, all of the model, or only those of the adapted modules (default: ${lora.bias})`,
        ['none', 'all', 'lora_only'],
      ),
    )
    .option('--freeze-a', 'train only the LoRA matrix B, and keep A at its initial values')
    .addOption(
      choice('--init <how>', 'distribution of the initial values of A (default: uniform)', [
        'uniform',
        'gaussian',
      ]),
    );
}

/**
 * Adds the flags of batch and optimiser. A default in their help applies only if neither a config file nor a preset sets
 * a value.
 */
export function addOptimizerOptions(command: Command): Command {
  return command
    .optionsGroup('Batch and optimiser:')
    .option(
      '--learning-rate <rate>',
      `peak learning rate of AdamW (default: ${training.learningRate})`,
      number(1e-12, 1),
    )
    .addOption(
      choice(
        '--schedule <name>',
        `course of the learning rate after the warm-up (default: ${training.schedule})`,
        ['constant', 'linear', 'cosine'],
      ),
    )
    .option(
      '--final-fraction <fraction>',
      `learning rate at the end of the schedules linear and cosine, as a fraction of the peak (default: ${training.finalFraction})`,
      number(0, 1),
    )
    .option(
      '--warmup <steps>',
      `optimiser steps in which the learning rate rises to its peak (default: ${training.warmupSteps})`,
      integer(0, 1_000_000),
    )
    .addOption(
      new Option(
        '--warmup-ratio <fraction>',
        'length of the warm-up as a fraction of all steps, instead of --warmup',
      )
        .argParser(number(0, 1))
        .conflicts('warmup'),
    )
    .option(
      '--batch-size <rows>',
      `rows in one optimiser step (default: ${training.batchSize})`,
      integer(1, 4096),
    )
    .addOption(
      new Option(
        '--micro-batch <rows>',
        'rows that pass through the model at once; fewer rows need less memory, and the result is the same (default: the batch size or, with several devices, an equal part of the batch for each device)',
      )
        .argParser(integer(1, 4096))
        .helpGroup('Compute and memory:'),
    )
    .addOption(
      new Option('--sequence-length <tokens>', `tokens in a row (default: ${training.sequenceLength})`)
        .argParser(integer(8, 131072))
        .helpGroup('Data:'),
    )
    .option('--weight-decay <rate>', `weight decay of AdamW (default: ${training.weightDecay})`, number(0, 1))
    .addOption(
      new Option(
        '--decay-group <group>',
        `group of trained parameters that weight decay applies to: A, B, magnitude (of DoRA) or saved (of --save-module); repeatable (default: ${training.weightDecayGroups.join(', ')})`,
      ).argParser(collect),
    )
    .option('--betas <b1,b2>', `β₁ and β₂ of AdamW (default: ${training.betas.join(',')})`, pairOfNumbers)
    .option('--epsilon <number>', `ε of AdamW (default: ${training.epsilon})`, number(Number.MIN_VALUE, 1))
    .option(
      '--clip-norm <norm>',
      `maximum global norm of the gradient; a larger gradient is scaled down to this norm (default: ${training.clipNorm})`,
      number(1e-9, 1e6),
    )
    .option(
      '--lora-plus <ratio>',
      `LoRA+: learning rate of B, as a multiple of the learning rate of A (default: ${training.loraPlusRatio})`,
      number(1e-3, 1000),
    )
    .option(
      '--neftune <alpha>',
      `NEFTune: α of the noise that training adds to the embeddings, usually 5 (default: ${training.neftuneAlpha}, no noise)`,
      number(0, 1000),
    )
    .option(
      '--label-smoothing <fraction>',
      `fraction of each target's probability that is spread evenly over the vocabulary (default: ${training.labelSmoothing})`,
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

/**
 * Returns a regular expression or "all-linear" as a string, and module names as a list. PEFT tells them apart by this
 * type. A single value counts as a regular expression if it has characters that no module name has.
 */
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

/** Splits PATTERN=NUMBER at the last "=", because a pattern can contain "=" too. */
function pattern(text: string, earlier: [string, number][] = []): [string, number][] {
  const at = text.lastIndexOf('=');
  if (at < 1) throw new InvalidArgumentError('Use PATTERN=NUMBER.');
  return [...earlier, [text.slice(0, at), number(1e-6)(text.slice(at + 1))]];
}

function pairOfNumbers(text: string): [number, number] {
  const parts = text.split(',').map((part) => number(0, 1 - Number.EPSILON)(part));
  if (parts.length !== 2) throw new InvalidArgumentError('Use two numbers, such as 0.9,0.95.');
  return parts as [number, number];
}
