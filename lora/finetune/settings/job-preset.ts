import { loraSchema, trainingSchema } from '../../../protocol/job/manifest.ts';
import { processorCompute } from '../../train/compute.ts';
import type { Choice } from '../../train/presets.ts';
import type { JobSpec, JobSpecInput } from './job-spec.ts';
import { presetLayer } from './preset.ts';
import { mergeLayers } from './settings.ts';

/**
 * Fills in the settings of `lora` and `training` that a job with a `preset` does not set. The number of steps follows
 * from the job's rounds. The preset does not choose the batch size, because n nodes make the batch n times as large,
 * and the memory of a node is unknown.
 *
 * @param written the job as its operator wrote it, without defaults
 * @param spec the job with defaults and the folder of its base
 */
export async function presetJob(
  { lora, training }: Pick<JobSpecInput, 'lora' | 'training'>,
  spec: JobSpec,
  { now, signal }: { now: number; signal: AbortSignal },
): Promise<{ spec: JobSpec; choices: readonly Choice[] }> {
  const { batchSize, microBatch } = spec.training;
  const given = mergeLayers(
    { training: { batchSize, microBatch } },
    // `warmupSteps` in the file overrides the `warmupRatio` of a preset.
    training?.warmupSteps === undefined ? {} : { training: { warmupRatio: null } },
    { lora: lora ?? {}, training: training ?? {} },
  );
  const layer = {
    ...given,
    base: spec.base,
    data: { ...spec.data, heldOut: null },
    run: { steps: spec.rounds.count * spec.rounds.localSteps },
  };
  // The nodes' devices are unknown here, so the settings are chosen for a processor.
  const compute = { ...processorCompute(), checkpointing: 'auto' } as const;
  const chosen = await presetLayer(spec.preset!, layer, { compute, now, signal });
  const merged = mergeLayers(chosen.layer, given);
  return {
    spec: {
      ...spec,
      lora: loraSchema.parse(merged.lora ?? {}),
      training: trainingSchema.parse(merged.training),
    },
    choices: chosen.choices,
  };
}
