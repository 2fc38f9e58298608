import { z } from 'zod';
import { digestSchema, nameSchema } from './ids.ts';
import { ADAPTER_BYTES } from './limits.ts';

/** Maximum number of files of a version: weights, config, and a few that other programs add. */
export const VERSION_FILES = 16;
/** Maximum number of parents of a version. Merges of more adapters than this are made in several steps. */
export const VERSION_PARENTS = 64;
/** Maximum number of data digests of a version. A run and a job have two: training and held-out data. */
export const VERSION_DATA = 64;
/** Maximum number of losses in the curve of a version. More would not fit on a screen. */
export const VERSION_CURVE = 20;
/** Maximum number of roll-backs of a version, for the same reason. */
export const VERSION_ROLL_BACKS = 20;
/** Maximum number of settings, and of metrics, of a version. A run has about 60 settings. */
export const VERSION_FACTS = 512;

const index = z.int().nonnegative();
const label = z.string().max(200);

/** The file names that a version may have. The names are used in folders and archives, so only harmless names pass. */
export const versionFileSchema = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/, 'must be a plain file name');

/** The name of a setting or metric, such as "training.learningRate" or "task.acc,none". */
const factName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9 ._,:/@%+-]{0,127}$/, 'must be a plain name');

/**
 * Settings by name. A list is written as JSON text, so that every value is a scalar and two versions can be compared.
 */
export const versionSettingsSchema = z
  .record(factName, z.union([z.string().max(4096), z.number(), z.boolean(), z.null()]))
  .refine(
    (facts) => Object.keys(facts).length <= VERSION_FACTS,
    `must have at most ${VERSION_FACTS} entries`,
  );

/** Metrics by name. */
export const versionMetricsSchema = z
  .record(factName, z.number())
  .refine(
    (facts) => Object.keys(facts).length <= VERSION_FACTS,
    `must have at most ${VERSION_FACTS} entries`,
  );

/**
 * The way a version was made from a parent: "train" (a run that started from it), "job" (a job that started from it),
 * "import", or the method of a merge of adapters, such as "cat", "svd" or "ties".
 */
const method = z.string().regex(/^[a-z][a-z0-9_-]{0,31}$/, 'must be 1 to 32 characters from a-z 0-9 _ -');

/** Roll-backs of a job, oldest first. The checkpoint of `round` has the adapter of the checkpoint of round `restores`. */
export const rollBacksSchema = z
  .array(z.strictObject({ round: index, restores: index }))
  .max(VERSION_ROLL_BACKS);

/**
 * The description of one version of an adapter in a registry, signed by the machine that added it. The digest of its
 * canonical CBOR is the version's identity.
 */
export const versionManifestSchema = z.strictObject({
  schema: z.literal(1),
  name: nameSchema,
  base: z.strictObject({
    /** Hub name of the base, or the name of its folder. */
    name: label.nullable(),
    /** Commit of the hub repository `name`; null if the base came from a folder. */
    revision: label.nullable(),
    digest: digestSchema,
    /**
     * Digest of the base's tokenizer files; null if the machine that added the version had only the digest of the base.
     */
    tokenizer: digestSchema.nullable(),
  }),
  /** Files of the version, sorted by path. A path is a plain file name. */
  files: z
    .array(
      z.strictObject({
        path: versionFileSchema,
        size: z.int().nonnegative().max(ADAPTER_BYTES),
        digest: digestSchema,
      }),
    )
    .min(1)
    .max(VERSION_FILES)
    // All files go into one folder, and many file systems ignore case. Names must therefore differ in more
    // than case.
    .refine(
      (files) => new Set(files.map(({ path }) => path.toLowerCase())).size === files.length,
      'must have distinct names',
    ),
  /** The versions that this one was made from, by the digest of their manifest. `label` names them for people. */
  parents: z
    .array(z.strictObject({ digest: digestSchema, label, method, weight: z.number() }))
    .max(VERSION_PARENTS),
  /** The job whose checkpoint this is; null for other versions. */
  job: z
    .strictObject({
      digest: digestSchema,
      name: nameSchema,
      /** Digest of the signed checkpoint. */
      checkpoint: digestSchema,
      round: index,
    })
    .nullable(),
  /** Digests of the packed training and held-out data. */
  data: z.array(z.strictObject({ name: label, digest: digestSchema })).max(VERSION_DATA),
  settings: versionSettingsSchema,
  /** Metrics that were known when the version was added. A registry stores later metrics outside the manifest. */
  metrics: versionMetricsSchema,
  /**
   * Held-out losses of the training that made the version, oldest first; absent if fewer than two are known. `at` counts
   * the rounds of a job, or the optimiser steps of a run.
   */
  curve: z
    .array(z.strictObject({ at: index, loss: z.number() }))
    .max(VERSION_CURVE)
    .optional(),
  /**
   * The newest roll-backs of the job before the version; absent if there was none.
   */
  rollBacks: rollBacksSchema.optional(),
  createdAt: index,
});
/** The description of one version of an adapter, as {@link versionManifestSchema} checks it. */
export type VersionManifest = z.infer<typeof versionManifestSchema>;
