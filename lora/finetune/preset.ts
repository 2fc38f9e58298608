import { loraSchema, trainingSchema } from '../../protocol/job/manifest.ts';
import { adapterLayout, adapterSize } from '../adapter/layout.ts';
import { loraConfig } from '../adapter/lora-config.ts';
import { loadTokenizer } from '../data/tokenizer.ts';
import { openBase } from '../models/base/base-model.ts';
import { type ComputeOnDevices, processorCompute } from '../train/compute.ts';
import { availableMemory } from '../train/memory/available-memory.ts';
import { type Choice, choosePreset, type PresetName } from '../train/presets.ts';
import { trainingFiles } from './data.ts';
import { decideForRun, memoryOf } from './memory.ts';
import { sampleData, trainingPart } from './sample.ts';
import type { JobSpec, JobSpecInput } from './settings/job-spec.ts';
import { type Layer, mergeLayers, resolveSpec } from './settings/settings.ts';

/** Share of the available memory to use. The rest is for other programs and for errors of the estimate. */
const MEMORY_SHARE = 0.6;

/**
 * Returns the settings of a preset for this model and data. Settings in `layer` stay, and the preset chooses the other
 * settings to match them.
 */
export async function presetLayer(
  name: PresetName,
  layer: Layer,
  { compute, now, signal }: { compute: ComputeOnDevices; now: number; signal: AbortSignal },
): Promise<{ layer: Layer; choices: readonly Choice[] }> {
  // Leaves out the block `run`, which may be invalid until the preset has chosen its missing settings.
  const { run: _, ...rest } = layer;
  const spec = resolveSpec(rest);
  const model = await openBase(spec.base);
  const tokenizer = await loadTokenizer(spec.base);
  const { heldOut } = spec.data;
  const all = await sampleData({ ...trainingFiles(spec), modelDir: spec.base, now, signal }, { tokenizer });
  const sample = trainingPart(all, heldOut);
  const sizeAt = (rank: number): number =>
    adapterSize(adapterLayout(model, loraConfig({ ...spec.lora, rank, rankPattern: [] })));
  const room = MEMORY_SHARE * availableMemory();
  const choices = choosePreset(name, {
    model: {
      family: model.config.family,
      hiddenSize: model.config.hiddenSize,
      maxPositions: model.config.maxPositions,
      parametersPerRank: sizeAt(2) - sizeAt(1),
    },
    data: {
      tokens: Math.max(1, sample.trainedTokens),
      commonLength: sample.commonLength,
      plainText: sample.plainText,
      heldOut: heldOut !== null,
      rows: (sequenceLength) => sample.rows(sequenceLength),
    },
    devices: compute.devices.length,
    given: numbersOf({ ...layer.lora, ...layer.training, ...layer.run }),
    fits: ({ rank, microBatch, sequenceLength }) => {
      const size = { lora: { rank }, training: { microBatch, batchSize: microBatch, sequenceLength } };
      const spec = resolveSpec(mergeLayers(rest, size));
      // `auto` is resolved as if memory were unlimited, so that it does not turn on gradient checkpointing to save memory.
      // A smaller micro-batch is preferred, because gradient checkpointing costs time.
      const { compute: resolved } = decideForRun(model, spec, compute, Number.POSITIVE_INFINITY);
      return memoryOf(model, spec, resolved).total <= room;
    },
  });
  const own = choices.filter(({ field }) => !isSet(layer, field));
  return { layer: layerOf(own), choices: own };
}

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

function numbersOf(settings: Record<string, unknown>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(settings).filter((entry): entry is [string, number] => typeof entry[1] === 'number'),
  );
}

function layerOf(choices: readonly Choice[]): Layer {
  return mergeLayers(
    ...choices.map(({ field, value }): Layer => {
      const [block, key] = field.split('.') as ['lora' | 'training' | 'run', string];
      return { [block]: { [key]: value } };
    }),
  );
}

function isSet(layer: Layer, field: string): boolean {
  const [block, key] = field.split('.') as ['lora' | 'training' | 'run', string];
  return layer[block]?.[key] !== undefined;
}
