import { resolve } from 'node:path';
import type { TrainFlags } from '../commands/train.ts';
import { adapterLayer, optimizerLayer } from '../training-options.ts';
import type { Layer } from './settings.ts';

/** What the command line says; options that were not given are undefined. Paths become absolute. */
export function flagLayer(flags: TrainFlags, cwd: string): Layer {
  const absolute = (path: string): string => resolve(cwd, path);
  return {
    base: flags.model === undefined ? undefined : absolute(flags.model),
    preset: flags.preset,
    seed: flags.seed,
    data: {
      train: flags.data?.map(absolute),
      heldOut: flags.heldOut?.map(absolute),
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
      steps: flags.steps,
      epochs: flags.epochs,
      evaluateEvery: flags.evaluateEvery,
      patience: flags.patience,
      minDelta: flags.minDelta,
      final: flags.final,
      checkpointEvery: flags.checkpointEvery,
      keepCheckpoints: flags.keepCheckpoints,
    },
  };
}
