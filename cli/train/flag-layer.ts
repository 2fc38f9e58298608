import { resolve } from 'node:path';
import { isBuiltIn } from '../../lora/data/render/built-in.ts';
import type { Layer } from '../../lora/finetune/settings.ts';
import { absoluteBase } from '../../lora/models/find-base.ts';
import type { TrainFlags } from '../commands/train.ts';
import { adapterLayer, optimizerLayer } from '../training-options.ts';

/** A chat template is a file, or one of the program's own by its name. */
export function templatePath<T extends null | undefined>(template: string | T, folder: string): string | T {
  return typeof template !== 'string' || isBuiltIn(template) ? template : resolve(folder, template);
}

/** The share that stands alone where files could: "0.05". */
function shareIn(heldOut: readonly string[] | undefined): number | undefined {
  const [text, ...more] = heldOut ?? [];
  return text !== undefined && more.length === 0 && /^0?\.\d+$/.test(text) ? Number(text) : undefined;
}

/** What the command line says; options that were not given are undefined. Paths become absolute. */
export function flagLayer(flags: TrainFlags, cwd: string): Layer {
  const absolute = (path: string): string => resolve(cwd, path);
  return {
    base: flags.model === undefined ? undefined : absoluteBase(flags.model, cwd),
    preset: flags.preset,
    seed: flags.seed,
    data: {
      train: flags.data?.map(absolute),
      heldOut: shareIn(flags.heldOut) ?? flags.heldOut?.map(absolute),
      format: flags.format,
      columns: flags.column,
      trainOn: flags.trainOn,
      template: templatePath(flags.template, cwd),
      templateVariables: flags.templateVariable,
      packing: flags.packing,
      truncation: flags.truncation,
      badRowShare: flags.badRows,
    },
    lora: adapterLayer(flags),
    training: optimizerLayer(flags),
    run: {
      // Epochs on the command line count against steps in the file.
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
}
