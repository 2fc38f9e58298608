import { type Command, InvalidArgumentError } from 'commander';
import { collect, integer, number } from './options.ts';

/** Options of `swarm train` that describe LoRA and its optimiser; the defaults are those of a job. */
export interface TrainingFlags {
  rank: number;
  alpha?: number;
  target?: string[];
  learningRate: number;
  schedule: 'constant' | 'cosine';
  warmup: number;
  batchSize: number;
  microBatch?: number;
  sequenceLength: number;
  steps?: number;
  epochs: number;
  seed: number;
}

export function addTrainingOptions(command: Command): Command {
  return command
    .option('--rank <r>', 'LoRA rank', integer(1, 1024), 16)
    .option(
      '--alpha <number>',
      'LoRA alpha; the update is scaled by alpha / rank (default: 2 × rank)',
      number(1e-6),
    )
    .option(
      '--target <module>',
      'adapt modules of this name; may be repeated (default: all linear ones)',
      collect,
    )
    .option('--learning-rate <rate>', 'peak learning rate of AdamW', number(1e-12, 1), 1e-3)
    .option('--schedule <name>', 'constant or cosine', oneOf(['constant', 'cosine']), 'constant')
    .option('--warmup <steps>', 'steps of linear warm-up', integer(0), 20)
    .option('--batch-size <rows>', 'rows per optimiser step', integer(1, 4096), 8)
    .option(
      '--micro-batch <rows>',
      'rows at a time, less needs less memory (default: the batch size)',
      integer(1, 4096),
    )
    .option('--sequence-length <tokens>', 'tokens per row', integer(8, 131072), 128)
    .option('--steps <n>', 'optimiser steps (default: as the epochs give)', integer(1))
    .option('--epochs <n>', 'passes over the data', number(1e-6), 1)
    .option('--seed <n>', 'of the adapter and the order of the data', integer(0, 0xffffffff), 0);
}

function oneOf<T extends string>(choices: readonly T[]) {
  return (text: string): T => {
    const choice = choices.find((one) => one === text);
    if (choice === undefined) throw new InvalidArgumentError(`Use ${choices.join(' or ')}.`);
    return choice;
  };
}
