/** Settings of the inner loop: those of a job manifest, plus what the manifest says elsewhere. */
import { z } from 'zod';
import { trainingSchema } from '../../protocol/manifest.ts';

export const trainingConfigSchema = trainingSchema.extend({
  /** Optimiser steps of the whole job: where a line or cosine ends. In a swarm, rounds × local steps. @default 1000 */
  totalSteps: z.int().positive().default(1000),
  /** Of dropout and noise; with the step it gives all random numbers of a step. @default 0 */
  seed: z.int().nonnegative().max(0xffffffff).default(0),
});

export type TrainingConfig = z.output<typeof trainingConfigSchema>;
/** The same with every default still open. */
export type TrainingOptions = z.input<typeof trainingConfigSchema>;
