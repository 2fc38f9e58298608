import type { ComputeInput, PresetName } from '../../index.ts';
import { absolutePaths } from '../../lora/finetune/settings/absolute-paths.ts';
import type { Layer } from '../../lora/finetune/settings/settings.ts';
import type { DataFlags } from '../options/data.ts';
import { type AdapterFlags, adapterLayer, type OptimizerFlags, optimizerLayer } from '../options/training.ts';

/** Flags of `lora-swarm train`, named as commander names them. A flag that is not given is undefined. */
export interface TrainFlags
  extends AdapterFlags,
    OptimizerFlags,
    Partial<DataFlags>,
    Pick<ComputeInput, 'engine' | 'threads' | 'baseBits' | 'precision' | 'gradientCheckpointing'> {
  config?: string;
  preset?: PresetName;
  model?: string;
  data?: string[];
  heldOut?: string[];
  output?: string;
  force?: boolean;
  resume?: boolean;
  checkpointEvery?: number;
  keepCheckpoints?: number;
  final?: string;
  steps?: number;
  epochs?: number;
  evaluateEvery?: number;
  patience?: number;
  minDelta?: number;
  seed?: number;
  dryRun?: boolean;
  from?: string;
  name?: string;
  publish?: boolean;
  registry?: string;
  tensorboard?: string;
  json?: boolean;
}

/** Returns the fraction if --held-out is a number such as 0.05 instead of files; undefined otherwise. */
export function shareIn(heldOut: readonly string[] | undefined): number | undefined {
  const [text, ...more] = heldOut ?? [];
  return text !== undefined && more.length === 0 && /^0?\.\d+$/.test(text) ? Number(text) : undefined;
}

/** Converts flags to settings with absolute paths. The setting of a flag that is not given is undefined. */
export function flagLayer(flags: TrainFlags, cwd: string): Layer {
  const layer: Layer = {
    base: flags.model,
    preset: flags.preset,
    seed: flags.seed,
    data: {
      train: flags.data,
      heldOut: shareIn(flags.heldOut) ?? flags.heldOut,
      format: flags.format,
      columns: flags.column,
      trainOn: flags.trainOn,
      template: flags.template,
      templateVariables: flags.templateVariable,
      packing: flags.packing,
      truncation: flags.truncation,
      badRowShare: flags.badRows,
    },
    lora: adapterLayer(flags),
    training: optimizerLayer(flags),
    run: {
      // --epochs overrides steps in the config file.
      steps: flags.steps ?? (flags.epochs === undefined ? undefined : null),
      epochs: flags.epochs,
      evaluateEvery: flags.evaluateEvery,
      patience: flags.patience,
      minDelta: flags.minDelta,
      final: flags.final,
      checkpointEvery: flags.checkpointEvery,
      keepCheckpoints: flags.keepCheckpoints,
    },
  };
  return absolutePaths(layer, cwd);
}
