/** Settings of a trainer: the block `training` of a manifest, the job's number of steps, and its seed. */
import { z } from 'zod';
import { type Manifest, trainingSchema } from '../../protocol/job/manifest.ts';

export const trainingConfigSchema = trainingSchema.extend({
  /**
   * Number of optimiser steps of the whole job, at which the schedule ends. In a swarm, rounds × local steps.
   * @default 1000
   */
  totalSteps: z.int().positive().default(1000),
  /** Seed of dropout and noise. The random numbers of a step follow from the seed, the step and its rows. @default 0 */
  seed: z.int().nonnegative().max(0xffffffff).default(0),
});

export type TrainingConfig = z.output<typeof trainingConfigSchema>;

/** Returns a job's training settings. A linear or cosine schedule of the learning rate ends when the job ends. */
export function jobTraining({ training, rounds, seed }: Manifest): TrainingConfig {
  const totalSteps = rounds.count * rounds.localSteps;
  return trainingConfigSchema.parse({ ...training, totalSteps, seed });
}
