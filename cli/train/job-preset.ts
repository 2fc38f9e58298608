import { readFile } from 'node:fs/promises';
import { parse } from 'yaml';
import type { JobSpec } from '../../lora/finetune/job-spec.ts';
import { presetLayer } from '../../lora/finetune/preset.ts';
import { type Layer, mergeLayers } from '../../lora/finetune/settings.ts';
import { processorCompute } from '../../lora/train/compute.ts';
import type { Choice } from '../../lora/train/presets.ts';
import { loraSchema, trainingSchema } from '../../protocol/manifest.ts';
import type { Context } from '../context.ts';

/**
 * Fills in the settings of `lora` and `training` that a job file with a `preset` does not set. The number of steps is
 * that of its rounds. The batch is not chosen: n nodes make it n times as large, and the memory of a node is unknown.
 *
 * @param path the job file that `spec` was read from
 */
export async function presetJob(
  path: string,
  spec: JobSpec,
  { clock, signal }: Pick<Context, 'clock' | 'signal'>,
): Promise<{ spec: JobSpec; choices: readonly Choice[] }> {
  const { lora, training } = parse(await readFile(path, 'utf8')) as Layer;
  const { batchSize, microBatch } = spec.training;
  const given = mergeLayers(
    { training: { batchSize, microBatch } },
    // warmupSteps in the file override the warmupRatio of a preset.
    training?.warmupSteps === undefined ? {} : { training: { warmupRatio: null } },
    { lora: lora ?? {}, training: training ?? {} },
  );
  const layer = {
    ...given,
    base: spec.base,
    data: { ...spec.data, heldOut: null },
    run: { steps: spec.rounds.count * spec.rounds.localSteps },
  };
  // The nodes' devices are unknown here: the settings fit a processor.
  const compute = { ...processorCompute(), checkpointing: 'auto' } as const;
  const chosen = await presetLayer(spec.preset!, layer, { compute, now: clock.now(), signal });
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
