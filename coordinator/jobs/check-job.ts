import type { Clock } from '../../common/time/clock.ts';
import { adapterSize } from '../../lora/adapter/layout.ts';
import { overlapWarning } from '../../lora/data/packing/held-out-overlap.ts';
import { mostAreCut } from '../../lora/data/packing/tally.ts';
import { loadTokenizer } from '../../lora/data/tokenizer.ts';
import type { JobSpec } from '../../lora/finetune/settings/job-spec.ts';
import { describeBase } from '../../lora/models/base/base-identity.ts';
import { type Preset, updateLimits } from '../../lora/update/index.ts';
import type { CreateJobLine, JobCheck } from '../../protocol/api/job-creation.ts';
import { sha256 } from '../../protocol/cbor.ts';
import { assertManifestFits } from '../record/new-job.ts';
import { openJobBase } from './job-base.ts';
import { describeJob } from './job-manifest.ts';
import { readJobTasks } from './job-tasks.ts';
import { packJobData } from './pack-data.ts';
import { readPrompts } from './prompts.ts';

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
