import { readFile } from 'node:fs/promises';
import { parse } from 'yaml';
import { loraSchema, trainingSchema } from '../../protocol/manifest.ts';
import { processorCompute } from '../train/compute.ts';
import type { Choice } from '../train/presets.ts';
import type { JobSpec } from './job-spec.ts';
import { presetLayer } from './preset.ts';
import { type Layer, mergeLayers } from './settings.ts';

/**
 * Fills in the settings of `lora` and `training` that a job file with a `preset` does not set. The number of steps is
 * that of its rounds. The batch is not chosen: n nodes make it n times as large, and the memory of a node is unknown.
 *
 * @param path the job file that `spec` was read from
 */
export async function presetJob(
  path: string,
  spec: JobSpec,
  { now, signal }: { now: number; signal: AbortSignal },
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
