import { z } from 'zod';
import { digestSchema } from '../ids.ts';
import { DETAIL_CHARACTERS } from '../limits.ts';
import { type Manifest, roundsSchema, trainingSchema } from './manifest.ts';

/** Settings that the operator of a job may change while the job runs. The manifest has their first values. */
export const runningSettingsSchema = z.strictObject({
  learningRate: trainingSchema.shape.learningRate.unwrap(),
  /**
   * Number of checkpoints after which the job is finished. A schedule that lowers the learning rate ends at the same
   * number of checkpoints.
   */
  count: roundsSchema.shape.count.unwrap(),
  minPeers: roundsSchema.shape.minPeers.unwrap(),
  maxSeconds: roundsSchema.shape.maxSeconds.unwrap(),
});
/** The values of the settings that may change while a job runs. */
export type RunningSettings = z.infer<typeof runningSettingsSchema>;

/** Keys of these settings in a job file. */
export const settingKeys = {
  learningRate: 'training.learningRate',
  count: 'rounds.count',
  minPeers: 'rounds.minPeers',
  maxSeconds: 'rounds.maxSeconds',
} as const satisfies Record<keyof RunningSettings, string>;

/** A setting that changed. `key`: its key in the job file. */
export interface ChangedSetting {
  key: string;
  before: number;
  after: number;
}

/** Returns the settings that differ between `before` and `after`. */
export function changedSettings(before: RunningSettings, after: RunningSettings): ChangedSetting[] {
  return (Object.keys(settingKeys) as (keyof RunningSettings)[])
    .filter((field) => before[field] !== after[field])
    .map((field) => ({ key: settingKeys[field], before: before[field], after: after[field] }));
}

/** One change of a job's settings. The digest of its body identifies it in heads and checkpoints. */
export const settingsRecordSchema = z.strictObject({
  job: digestSchema,
  term: z.int().positive(),
  /** 1 for the first change of the job. Each further change has the next number. */
  sequence: z.int().positive(),
  /** Digest of the previous change; null for the first one. */
  previous: digestSchema.nullable(),
  /**
   * The first round in which the changed settings apply. If several changes name the same round, the newest of these
   * changes applies.
   */
  fromRound: z.int().positive(),
  /** All settings after the change, including those that did not change. */
  values: runningSettingsSchema,
  /** Human-readable reason for the change. */
  reason: z.string().max(DETAIL_CHARACTERS),
  issuedAt: z.int().nonnegative(),
});

/** The settings of a round if they differ from those in the manifest. The head of the round contains them. */
export const headSettingsSchema = z.strictObject({
  /** Digest of the newest change of the job's settings that applies to the round. */
  record: digestSchema,
  values: runningSettingsSchema,
});

/** Returns the manifest's values of the settings that can be changed while the job runs. */
export function firstSettings({ training, rounds }: Pick<Manifest, 'training' | 'rounds'>): RunningSettings {
  const { count, minPeers, maxSeconds } = rounds;
  return { learningRate: training.learningRate, count, minPeers, maxSeconds };
}

/**
 * Returns a manifest with the settings of a round in place of its first settings, for people and registries that want
 * to know how a checkpoint was trained. The digest of the result is not the digest of the job.
 */
export function withSettings<M extends Pick<Manifest, 'training' | 'rounds'>>(
  manifest: M,
  { learningRate, ...rounds }: RunningSettings,
): M {
  return {
    ...manifest,
    training: { ...manifest.training, learningRate },
    rounds: { ...manifest.rounds, ...rounds },
  };
}
