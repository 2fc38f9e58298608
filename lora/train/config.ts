/** Settings of the inner loop: those of a job manifest, plus what only the learning-rate schedule needs. */
import { z } from 'zod';
import { trainingSchema } from '../../protocol/manifest.ts';

export const trainingConfigSchema = trainingSchema.extend({
  /** Optimiser steps of the whole job: where a cosine ends. In a swarm, rounds × local steps. @default 1000 */
  totalSteps: z.int().positive().default(1000),
  /** A cosine ends at this share of the learning rate. @default 0.1 */
  finalFraction: z.number().min(0).max(1).default(0.1),
});

export type TrainingConfig = z.output<typeof trainingConfigSchema>;
/** The same with every default still open. */
export type TrainingOptions = z.input<typeof trainingConfigSchema>;
