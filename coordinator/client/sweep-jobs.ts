import { dirname } from 'node:path';
import { z } from 'zod';
import { specProblems } from '../../common/schema-problems.ts';
import { finetuneError } from '../../lora/finetune/errors.ts';
import { absoluteChanges } from '../../lora/finetune/settings/absolute-paths.ts';
import { YamlFile } from '../../lora/finetune/settings/yaml-file.ts';
import { type SweepView, VARIANT_CHARACTERS } from '../../protocol/api/sweeps.ts';
import { adapterNameSchema } from '../../protocol/ids.ts';
import { ApiClient, type CoordinatorAddress } from './api-client.ts';
import { type CreatedJob, type CreateJobOptions, cloneJob } from './create-job.ts';

const sweepSchema = z.strictObject({
  name: adapterNameSchema,
  /** Name of the job whose copies are the variants. */
  job: z.string().min(1),
  /**
   * Changed settings of each variant, by their keys in the job file. With `data.train`, the variant has training files of
   * its own, and the held-out rows of the job.
   */
  variants: z.array(z.record(z.string(), z.unknown())).min(1).max(32),
  /** Further jobs of the sweep, with the same held-out rows. @default none */
  jobs: z.array(z.string().min(1)).max(32).default([]),
  /**
   * Number of checkpoints after which half of the jobs are stopped. This number doubles with each halving.
   * @default 2
   */
  rounds: z.int().positive().max(100_000).default(2),
});
/** Description of a sweep. */
export type SweepSpec = z.input<typeof sweepSchema>;

/** A new sweep, and the new jobs with their invites. */
export interface CreatedSweep {
  readonly sweep: SweepView;
  readonly jobs: readonly CreatedJob[];
}

/**
 * Makes copies of a job and starts a sweep of them. Again and again, the coordinator stops the half of the
 * jobs with the higher held-out losses. After an interruption, a second call continues the work of the first.
 * @throws SwarmError JOB_SPEC, SWEEP_INVALID, and the errors of `cloneJob`
 */
export async function sweepJobs(
  where: CoordinatorAddress | ApiClient,
  spec: SweepSpec,
  options: Pick<CreateJobOptions, 'signal' | 'onProgress'> = {},
): Promise<CreatedSweep> {
  const parsed = sweepSchema.safeParse(spec);
  if (!parsed.success) {
    const problems = specProblems(sweepSchema, spec, parsed.error.issues).map(({ text }) => text);
    const next = 'correct the sweep; docs/workflow.md has an example of its file';
    throw finetuneError(
      'JOB_SPEC',
      `the sweep is wrong: ${problems.join('; ')}`,
      { field: '', problems },
      { next },
    );
  }
  const { name, job, variants, jobs, rounds } = parsed.data;
  const { signal = new AbortController().signal } = options;
  const api = where instanceof ApiClient ? where : await ApiClient.connect(where, { signal });
  const created: CreatedJob[] = [];
  for (const [i, changes] of variants.entries()) {
    created.push(await cloneJob(api, job, { ...options, name: `${name}-${i + 1}`, changes }));
  }
  const entries = [
    ...created.map((copy, i) => ({ job: copy.job, variant: variantText(variants[i]!) })),
    ...jobs.map((other) => ({ job: other, variant: '' })),
  ];
  return { sweep: await api.createSweep({ name, rounds, jobs: entries }), jobs: created };
}

/**
 * Reads a sweep file. Relative paths of training files in it start from the folder of the file.
 * @throws SwarmError JOB_FILE_MISSING, JOB_SPEC
 */
export async function readSweepFile(path: string): Promise<SweepSpec> {
  const { value } = await YamlFile.read(path, 'sweep file');
  if (!isRecord(value) || !Array.isArray(value.variants)) return value as SweepSpec;
  const folder = dirname(path);
  const absolute = value.variants.map((changes: unknown) =>
    isRecord(changes) ? absoluteChanges(changes, folder) : changes,
  );
  return { ...value, variants: absolute } as SweepSpec;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function variantText(changes: Readonly<Record<string, unknown>>): string {
  const parts = Object.entries(changes).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
  const text = parts.length === 0 ? 'no change' : parts.join(' ');
  return text.length <= VARIANT_CHARACTERS ? text : `${text.slice(0, VARIANT_CHARACTERS - 1)}…`;
}
