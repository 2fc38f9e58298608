import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Contents of the file that scripts/reference/make_training.py writes. The script describes each part. */
export interface TrainingReference {
  schedules: {
    schedule: 'constant' | 'linear' | 'cosine';
    finalFraction: number;
    learningRate: number;
    warmupSteps: number;
    totalSteps: number;
    rates: number[];
  }[];
  warmup: { share: number; totalSteps: number; steps: number }[];
  labelSmoothing: {
    epsilon: number;
    tokens: number;
    vocabulary: number;
    width: number;
    labels: number[];
    x: number[];
    w: number[];
    logits: number[];
    /** Mean over the tokens with a label. */
    loss: number;
    gradient: { x: number[]; w: number[]; logits: number[] };
  }[];
  neftune: {
    alpha: number;
    batch: number;
    length: number;
    width: number;
    bound: number;
    largest: number;
    deviation: number;
  }[];
  groups: { ratio: number; tensors: { name: string; shape: number[]; rate: number; decay: boolean }[] };
  loraPlus: {
    settings: {
      learningRate: number;
      loraPlusRatio: number;
      weightDecay: number;
      betas: [number, number];
      epsilon: number;
    };
    tensors: {
      name: string;
      shape: number[];
      before: number[];
      gradients: number[][];
      after: number[];
    }[];
  };
}

export function trainingReference(): TrainingReference {
  const path = join(import.meta.dirname, '../../fixtures/training.json');
  return JSON.parse(readFileSync(path, 'utf8')) as TrainingReference;
}
