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
 * Fills in what a job file with a `preset` leaves open of `lora` and `training`. Steps are those of its rounds. The batch is
 * not chosen: a swarm of n nodes makes it n times as large, and what fits into a node's memory is not known here.
 *
 * @param path of the job file, which `spec` was read from
 */
export async function presetJob(
  path: string,
  spec: JobSpec,
  { clock, signal }: Pick<Context, 'clock' | 'signal'>,
): Promise<{ spec: JobSpec; choices: readonly Choice[] }> {
  const { lora, training } = parse(await readFile(path, 'utf8')) as Layer;
  const { batchSize, microBatch } = spec.training;
  const said = mergeLayers(
    { training: { batchSize, microBatch } },
    // Steps of warm-up that were written down count, whatever share a preset would choose.
    training?.warmupSteps === undefined ? {} : { training: { warmupRatio: null } },
    { lora: lora ?? {}, training: training ?? {} },
  );
  const layer = {
    ...said,
    base: spec.base,
    data: { ...spec.data, heldOut: null },
    run: { steps: spec.rounds.count * spec.rounds.localSteps },
  };
  // The nodes' devices are unknown here: the settings fit a processor.
  const compute = { ...processorCompute(), checkpointing: 'auto' } as const;
  const chosen = await presetLayer(spec.preset!, layer, { compute, now: clock.now(), signal });
  const merged = mergeLayers(chosen.layer, said);
  return {
    spec: {
      ...spec,
      lora: loraSchema.parse(merged.lora ?? {}),
      training: trainingSchema.parse(merged.training),
    },
    choices: chosen.choices,
  };
}
