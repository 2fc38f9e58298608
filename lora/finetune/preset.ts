import { adapterLayout, adapterSize } from '../adapter/layout.ts';
import { loraConfig } from '../adapter/lora-config.ts';
import { loadTokenizer } from '../data/tokenizer.ts';
import type { Device } from '../engines/names.ts';
import type { BaseBits } from '../models/base-bits.ts';
import { openBase } from '../models/base-model.ts';
import { availableMemory } from '../train/available-memory.ts';
import type { CheckpointingChoice } from '../train/checkpointing.ts';
import { type Choice, choosePreset, type PresetName } from '../train/presets.ts';
import { trainingFiles } from './data.ts';
import { checkpointingOf, memoryOf } from './memory.ts';
import { sampleData } from './sample.ts';
import { type Layer, mergeLayers, resolveSpec } from './settings.ts';

/** Training should leave room for everything else on the machine, and estimates are not exact. */
const MEMORY_SHARE = 0.6;

/** The settings of a preset for this model and data. `layer`: what was said, which it goes along with. */
export async function presetLayer(
  name: PresetName,
  layer: Layer,
  machine: {
    now: number;
    /** @default 'auto' */
    checkpointing?: CheckpointingChoice;
    /** @default 32 */
    baseBits?: BaseBits;
    /** All that share each batch. @default onnx-cpu alone */
    devices?: readonly Device[];
    signal: AbortSignal;
  },
): Promise<{ layer: Layer; choices: readonly Choice[] }> {
  // How long it trains and how often it measures is still open, and need not go together yet.
  const { run: _, ...said } = layer;
  const spec = resolveSpec(said);
  const model = await openBase(spec.base);
  const tokenizer = await loadTokenizer(spec.base);
  const { heldOut } = spec.data;
  const sample = await sampleData(
    { ...trainingFiles(spec), modelDir: spec.base, now: machine.now, signal: machine.signal },
    { tokenizer },
  );
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
    devices: machine.devices?.length,
    given: numbersOf({ ...layer.lora, ...layer.training, ...layer.run }),
    fits: ({ rank, microBatch, sequenceLength }) => {
      const size = { lora: { rank }, training: { microBatch, batchSize: microBatch, sequenceLength } };
      const spec = resolveSpec(mergeLayers(said, size));
      // What fits without it is chosen first: it costs time.
      const { baseBits = 32, checkpointing: asked = 'auto', devices = [{ engine: 'onnx-cpu' }] } = machine;
      const { checkpointing } = checkpointingOf(model, spec, {
        asked,
        devices,
        baseBits,
        available: Number.POSITIVE_INFINITY,
      });
      return memoryOf(model, spec, { checkpointing, baseBits, devices }).total <= room;
    },
  });
  const own = choices.filter(({ field }) => !isSaid(layer, field));
  return { layer: layerOf(own), choices: own };
}

function numbersOf(said: Record<string, unknown>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(said).filter((entry): entry is [string, number] => typeof entry[1] === 'number'),
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

function isSaid(layer: Layer, field: string): boolean {
  const [block, key] = field.split('.') as ['lora' | 'training' | 'run', string];
  return layer[block]?.[key] !== undefined;
}
