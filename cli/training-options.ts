import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Layer } from '../lora/finetune/settings.ts';
import { isAllLinear } from '../lora/models/targets.ts';
import { loraSchema, trainingSchema } from '../protocol/manifest.ts';
import { collect, integer, number } from './options.ts';

/** Options that describe the adapter, by what commander calls them; what is not given is undefined. */
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

/** Options of the optimiser, likewise. */
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

/** The defaults are those of a job; they are filled in later, so that a config file or a preset can say otherwise. */
export function addAdapterOptions(command: Command): Command {
  return command
    .optionsGroup('Adapter:')
    .option('--rank <r>', `LoRA rank (default: ${lora.rank})`, integer(1, 1024))
    .option('--alpha <number>', 'the update is scaled by alpha / rank (default: 2 × rank)', number(1e-6))
    .option(
      '--target <module>',
      'adapt modules of this name; may be repeated; or one regular expression over whole names (default: all-linear)',
      collect,
    )
    .option('--exclude <module>', 'do not adapt modules of this name, likewise', collect)
    .option('--layer <number>', 'adapt this block only, from 0; may be repeated (default: all)', numbers)
    .option('--rank-pattern <pattern=r>', 'another rank for the modules that match; may be repeated', pattern)
    .option('--alpha-pattern <pattern=a>', 'another alpha, likewise', pattern)
    .option('--rslora', 'scale by alpha / √rank')
    .option('--dora', 'learn direction and magnitude apart (DoRA)')
    .option(
      '--dropout <share>',
      `share of the adapter's inputs set to zero in training (default: ${lora.dropout})`,
      number(0, 0.999),
    )
    .option(
      '--save-module <module>',
      'train this module whole and keep it in the adapter; may be repeated',
      collect,
    )
    .addOption(
      choice('--bias <which>', `biases to train (default: ${lora.bias})`, ['none', 'all', 'lora_only']),
    )
    .option('--freeze-a', 'train B only')
    .addOption(choice('--init <how>', 'start of A (default: uniform)', ['uniform', 'gaussian']));
}

export function addOptimizerOptions(command: Command): Command {
  return command
    .optionsGroup('Training:')
    .option(
      '--learning-rate <rate>',
      `peak rate of AdamW (default: ${training.learningRate})`,
      number(1e-12, 1),
    )
    .addOption(
      choice('--schedule <name>', `how the rate goes on after warm-up (default: ${training.schedule})`, [
        'constant',
        'linear',
        'cosine',
      ]),
    )
    .option(
      '--final-fraction <share>',
      `where linear and cosine end, as a share of the rate (default: ${training.finalFraction})`,
      number(0, 1),
    )
    .option(
      '--warmup <steps>',
      `steps of linear warm-up (default: ${training.warmupSteps})`,
      integer(0, 1_000_000),
    )
    .addOption(
      new Option('--warmup-ratio <share>', 'the same as a share of all steps')
        .argParser(number(0, 1))
        .conflicts('warmup'),
    )
    .option(
      '--batch-size <rows>',
      `rows per optimiser step (default: ${training.batchSize})`,
      integer(1, 4096),
    )
    .option(
      '--micro-batch <rows>',
      'rows at a time: fewer need less memory, the result is the same (default: the batch size; with several devices a share of it for each)',
      integer(1, 4096),
    )
    .option(
      '--sequence-length <tokens>',
      `tokens per row (default: ${training.sequenceLength})`,
      integer(8, 131072),
    )
    .option('--weight-decay <rate>', `AdamW's decay (default: ${training.weightDecay})`, number(0, 1))
    .addOption(
      new Option(
        '--decay-group <group>',
        `tensors that decay: A, B, magnitude, saved; may be repeated (default: ${training.weightDecayGroups.join(', ')})`,
      ).argParser(collect),
    )
    .option('--betas <b1,b2>', `AdamW's moments (default: ${training.betas.join(',')})`, pairOfNumbers)
    .option('--epsilon <number>', `AdamW's ε (default: ${training.epsilon})`, number(Number.MIN_VALUE, 1))
    .option('--clip-norm <norm>', `greatest gradient norm (default: ${training.clipNorm})`, number(1e-9, 1e6))
    .option(
      '--lora-plus <ratio>',
      `rate of B as a multiple of A's (default: ${training.loraPlusRatio})`,
      number(1e-3, 1000),
    )
    .option(
      '--neftune <alpha>',
      `noise on the embeddings, usually 5 (default: ${training.neftuneAlpha})`,
      number(0, 1000),
    )
    .option(
      '--label-smoothing <share>',
      `share of each target spread over the vocabulary (default: ${training.labelSmoothing})`,
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
    // Steps on the command line count against a share in the file.
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

/** PEFT tells a pattern from a name by whether it is in a list; here by its characters. */
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

/** The first "=" from the right: patterns may hold one themselves. */
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
