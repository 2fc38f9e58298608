import { join } from 'node:path';
import type { Model } from '../models/folder.ts';
import { magnitudeName, matrixName } from '../models/lora.ts';
import { readTensor } from '../models/safetensors.ts';
import type { LoraConfig } from './config.ts';
import { deltaOf } from './delta.ts';
import { planLayout, randomMatrix } from './layout.ts';
import { adapterPlan } from './plan.ts';
import { rowNorms } from './weights.ts';

/**
 * What training starts from: random matrices as initAdapter makes them, DoRA's magnitudes ‖W + s·BA‖ (‖W‖ where B is
 * zero), and copies of the base's own parameters for biases and saved modules. The same model, settings and seed
 * give the same values on every machine.
 *
 * @param seed whole number below 2^53
 * @returns values in the order of adapterLayout
 * @throws SwarmError LORA_*, SEED, TENSORS_TRUNCATED
 */
export async function initialAdapter(
  model: Model,
  lora: LoraConfig,
  seed: number,
  options: { signal?: AbortSignal } = {},
): Promise<Float32Array[]> {
  const plan = adapterPlan(model, lora);
  const layout = planLayout(plan, lora);
  const values = new Map<string, Float32Array>();
  for (const tensor of layout) {
    if (tensor.group === 'A' || tensor.group === 'B')
      values.set(tensor.name, randomMatrix(tensor, seed, lora.initLoraWeights));
  }
  for (const { tensor, from } of plan.copies) {
    options.signal?.throwIfAborted();
    const { file, entry } = model.tensors.get(from)!;
    values.set(tensor, await readTensor(join(model.dir, file), entry));
  }
  for (const module of lora.useDora ? plan.modules : []) {
    const a = values.get(matrixName(module, 'A'))!;
    const b = values.get(matrixName(module, 'B'))!;
    const delta = lora.initLoraWeights === false ? deltaOf(module, a, b) : null;
    values.set(magnitudeName(module.name), await rowNorms(model, module, delta, options.signal));
  }
  return layout.map(({ name }) => values.get(name)!);
}
