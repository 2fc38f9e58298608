import { adapterLayout, adapterSize } from '../../adapter/layout.ts';
import { loraConfig } from '../../adapter/lora-config.ts';
import { loadTokenizer } from '../../data/tokenizer.ts';
import { openBase } from '../../models/base/base-model.ts';
import type { ComputeOnDevices } from '../../train/compute.ts';
import { availableMemory } from '../../train/memory/available-memory.ts';
import { type Choice, choosePreset, type PresetName } from '../../train/presets.ts';
import { trainingFiles } from '../data.ts';
import { decideForRun, memoryOf } from '../memory.ts';
import { sampleData, trainingPart } from '../sample.ts';
import { type Layer, mergeLayers, resolveSpec } from './settings.ts';

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
