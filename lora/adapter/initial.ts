import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { elementCount } from '../graph/shapes.ts';
import type { BaseModel } from '../models/base/base-model.ts';
import { magnitudeName, matrixName } from '../models/lora.ts';
import { readTensor } from '../models/weights/safetensors.ts';
import { rowNorms } from './base-rows.ts';
import { deltaOf } from './delta.ts';
import { adapterError } from './errors.ts';
import { type AdapterLayout, type AdapterTensor, planLayout } from './layout.ts';
import type { LoraConfig } from './lora-config.ts';
import { philox } from './philox.ts';
import { adapterPlan } from './plan.ts';

/**
 * Makes the adapter that training starts from: random matrices (see initialMatrices), DoRA's magnitudes ‖W + s·BA‖ (which
 * are ‖W‖ if B is zero), and copies of the base's parameters for biases and saved modules. The same model, settings and
 * seed give the same values on every machine.
 *
 * @param seed whole number below 2^53
 * @returns values in layout order
 * @throws SwarmError LORA_*, SEED, TENSORS_TRUNCATED; LORA_ZERO_NORM if DoRA is used on a weight with a zero row
 */
export async function initialAdapter(
  model: BaseModel,
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
    const norms = await rowNorms(model, module, delta, options.signal);
    if (norms.includes(0))
      throw adapterError(
        'LORA_ZERO_NORM',
        `DoRA divides by the norm of each row, but row ${norms.indexOf(0)} of the weight of ${module.name} is zero`,
        { module: module.name, row: norms.indexOf(0) },
      );
    values.set(magnitudeName(module.name), norms);
  }
  return layout.map(({ name }) => values.get(name)!);
}

/**
 * Makes the initial LoRA matrices. A value depends only on the seed, the tensor's name and its position, so it is the same
 * on every machine and does not depend on the other target modules. `init` is PEFT's `init_lora_weights`:
 * - true: A is uniform between −1/√in and 1/√in (Kaiming-uniform with a = √5). B is zero, so that training starts
 *   exactly at the base.
 * - 'gaussian': A is normal with a standard deviation of 1/r. B is zero.
 * - false: A is the same as with true. B is uniform between −1/√r and 1/√r.
 *
 * For an embedding, B is normal with a standard deviation of 1. A is zero. If `init` is false, A is normal too, with
 * the same standard deviation.
 *
 * @param seed whole number below 2^53
 * @param init @default true
 * @returns values in layout order
 * @throws SwarmError ADAPTER_INIT if the layout has tensors that start from the base's weights: use
 *   initialAdapter
 */
export function initialMatrices(
  layout: AdapterLayout,
  seed: number,
  init: LoraConfig['initLoraWeights'] = true,
): Float32Array[] {
  const other = layout.find(({ group }) => group !== 'A' && group !== 'B');
  if (other)
    throw adapterError(
      'ADAPTER_INIT',
      `${other.name} starts from the base's weights, which initialMatrices does not have`,
      { tensor: other.name },
    );
  return layout.map((tensor) => randomMatrix(tensor, seed, init));
}

/** Makes one matrix A or B of initialMatrices. */
function randomMatrix(
  { name, shape, group }: AdapterTensor,
  seed: number,
  init: LoraConfig['initLoraWeights'],
): Float32Array {
  if (!Number.isSafeInteger(seed) || seed < 0)
    throw adapterError('SEED', `the seed is ${seed}, expected a whole number from 0 to 2^53 − 1`, { seed });
  const values = new Float32Array(elementCount(shape));
  const embedding = name.includes('.lora_embedding_');
  if (init !== false && group === (embedding ? 'A' : 'B')) return values;
  const key = [seed >>> 0, Math.floor(seed / 2 ** 32)] as const;
  const digest = createHash('sha256').update(name).digest();
  const stream = [digest.readUInt32LE(0), digest.readUInt32LE(4)] as const;
  const [rows, columns] = shape as [number, number];
  const bound = 1 / Math.sqrt(columns);
  for (let i = 0; i < values.length; i += 4) {
    const words = philox([i / 4, 0, stream[0], stream[1]], key);
    // The upper 24 bits (the precision of float32), mapped to the open interval from −1 to 1.
    const centred = words.map((word) => ((word >>> 8) + 0.5) / 2 ** 23 - 1);
    const four = embedding
      ? normals(centred)
      : init === 'gaussian'
        ? normals(centred).map((normal) => normal / rows)
        : centred.map((u) => bound * u);
    values.set(four.slice(0, values.length - i), i);
  }
  return values;
}

/** Maps pairs of uniform numbers between −1 and 1 to pairs of standard normal numbers (Box & Muller 1958). */
function normals(centred: readonly number[]): number[] {
  return centred.map((value, j) => {
    const [radius, angle] = j % 2 === 0 ? [value, centred[j + 1]!] : [centred[j - 1]!, value];
    const length = Math.sqrt(-2 * Math.log((radius + 1) / 2));
    return length * (j % 2 === 0 ? Math.cos(Math.PI * angle) : Math.sin(Math.PI * angle));
  });
}
