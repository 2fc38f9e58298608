import type { Clock } from '../../common/time/clock.ts';
import { adapterSize } from '../../lora/adapter/layout.ts';
import { overlapWarning } from '../../lora/data/packing/held-out-overlap.ts';
import { mostAreCut, type RowTally } from '../../lora/data/packing/tally.ts';
import type { RowSummary } from '../../lora/data/row-report.ts';
import { loadTokenizer } from '../../lora/data/tokenizer.ts';
import type { JobSpec } from '../../lora/finetune/settings/job-spec.ts';
import { describeBase } from '../../lora/models/base/base-identity.ts';
import { type Preset, updateLimits } from '../../lora/update/index.ts';
import { sha256 } from '../../protocol/cbor.ts';
import { assertManifestFits } from '../record/new-job.ts';
import { readPrompts } from '../samples/prompts.ts';
import type { CreateJobLine } from './create-job.ts';
import { openJobBase } from './job-base.ts';
import { describeJob } from './job-manifest.ts';
import { readJobTasks } from './job-tasks.ts';
import { type PartCounts, packJobData } from './pack-data.ts';

/** The figures of a job, measured on its base and data without creating the job. Sizes are in bytes. */
export interface JobCheck {
  readonly base: { readonly name: string; readonly parameters: number; readonly bytes: number };
  readonly data: {
    readonly rows: number;
    /** Number of supervised tokens. */
    readonly tokens: number;
    /** Bytes of all data shards. A node fetches at most this number of bytes. */
    readonly bytes: number;
    readonly heldOut: { readonly rows: number; readonly tokens: number } & PartCounts;
    /**
     * Number of records in the training files, and number of unusable records. If too many are unusable, `checkJob`
     * throws DATA_BAD_ROWS instead.
     */
    readonly read: RowSummary;
    /** Counts of the training samples that were packed, cut or left out. */
    readonly tally: RowTally;
  };
  readonly adapter: { readonly parameters: number; readonly bytes: number };
  /**
   * Maximum size of an update at each preset that rounds may use. With "auto", the number of nodes in a round decides
   * between two presets.
   */
  readonly update: readonly { readonly preset: Preset; readonly bytes: number }[];
  /** Warnings about the data, each with advice. */
  readonly warnings: readonly { readonly message: string; readonly next: string }[];
  /** Size of the manifest that every node gets. */
  readonly manifestBytes: number;
}

/**
 * Runs the same checks as the creation of the job, except those that compute with the base. Reads the base and the
 * tokenizer, finds the target modules, splits off the held-out data, and tokenizes and packs all data. The only file
 * that it writes is a cache of the base's digests.
 * @throws SwarmError MODEL_*, TENSORS_*, LORA_*, DATA_*, TASK_*, SEQUENCE_TOO_LONG, JOB_TOO_LARGE
 */
export async function checkJob(
  spec: JobSpec,
  {
    cacheDir,
    signal,
    onProgress,
  }: {
    cacheDir: string;
    signal: AbortSignal;
    onProgress: (line: Extract<CreateJobLine, { event: 'progress' }>) => void;
  },
  { clock }: { clock: Pick<Clock, 'now'> },
): Promise<JobCheck> {
  await readJobTasks(spec, { signal });
  const { model, layout } = await openJobBase(spec);
  const tokenizer = await loadTokenizer(spec.base);
  await readPrompts(spec, tokenizer, { clock });
  const base = await describeBase(spec.base, { signal, cacheDir });
  const baseBytes = base.files.reduce((sum, { size }) => sum + size, 0);
  onProgress({ event: 'progress', stage: 'base', done: baseBytes, total: baseBytes });
  const packed = await packJobData(
    {
      spec,
      tokenizer,
      signal,
      onProgress: (done, total) => onProgress({ event: 'progress', stage: 'data', done, total }),
    },
    { clock, blobs: { put: async (bytes) => sha256(bytes) } },
  );
  const parameters = adapterSize(layout);
  const adapterBytes = parameters * Float32Array.BYTES_PER_ELEMENT;
  const { data } = packed;
  // No adapter has been made, so its digest is unknown. Any digest gives the manifest its real size, because
  // all digests have the same length. Only the peer id of the coordinator is missing, so the real manifest is
  // 65 bytes larger.
  const initial = { digest: sha256(new Uint8Array()), size: adapterBytes };
  const manifest = describeJob({
    coordinator: null,
    ...{ spec, model, base, data, layout, initial },
    createdAt: clock.now(),
  });
  const warnings = [mostAreCut(packed.tally), overlapWarning(packed.heldOutPart!.overlap)];
  const { preset } = spec.rounds;
  const presets: Preset[] = preset === 'auto' ? ['dense', 'balanced'] : [preset];
  return {
    base: { name: manifest.base.name, parameters: model.parameters, bytes: baseBytes },
    data: {
      rows: data.rows,
      tokens: data.tokens,
      bytes: data.shards.reduce((sum, { size }) => sum + size, 0),
      heldOut: { rows: data.heldOut.rows, tokens: data.heldOut.tokens, ...packed.heldOutPart! },
      read: packed.read,
      tally: packed.tally,
    },
    adapter: { parameters, bytes: adapterBytes },
    update: presets.map((name) => ({ preset: name, bytes: updateLimits(layout, name).maximumBytes })),
    warnings: warnings.filter((warning) => warning !== null),
    manifestBytes: assertManifestFits(manifest),
  };
}
