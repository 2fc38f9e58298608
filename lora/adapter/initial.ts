import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { elementCount } from '../graph/shapes.ts';
import type { BaseModel } from '../models/base-model.ts';
import { magnitudeName, matrixName } from '../models/lora.ts';
import { readTensor } from '../models/safetensors.ts';
import { rowNorms } from './base-rows.ts';
import { deltaOf } from './delta.ts';
import { adapterError } from './errors.ts';
import { type AdapterLayout, type AdapterTensor, planLayout } from './layout.ts';
import type { LoraConfig } from './lora-config.ts';
import { philox } from './philox.ts';
import { adapterPlan } from './plan.ts';

/**
 * What training starts from: random matrices as initialMatrices makes them, DoRA's magnitudes ‖W + s·BA‖ (‖W‖ where B is
 * zero), and copies of the base's own parameters for biases and saved modules. The same model, settings and seed
 * give the same values on every machine.
 *
 * @param seed whole number below 2^53
 * @returns values in the order of adapterLayout
 * @throws SwarmError LORA_*, SEED, TENSORS_TRUNCATED; LORA_ZERO_NORM DoRA on a weight with a row of zeros
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
        `row ${norms.indexOf(0)} of the weight of ${module.name} is zero, and DoRA divides by its norm; leave the module out with excludeModules`,
        { module: module.name, row: norms.indexOf(0) },
      );
    values.set(magnitudeName(module.name), norms);
  }
  return layout.map(({ name }) => values.get(name)!);
}

/**
 * The random start of an adapter's matrices. Values depend on the seed, the tensor's name and the position alone: the
 * same on every machine, whatever other modules carry an adapter. By `init`, as PEFT's `init_lora_weights`:
 * - true: A uniform in ±1/√in (Kaiming-uniform with a = √5), B zero, so that training starts at the base exactly
 * - 'gaussian': A normal with a standard deviation of 1/r, B zero
 * - false: A as for true, B uniform in ±1/√r
 * Of an embedding, A is zero (normal for false) and B normal with a standard deviation of 1.
 *
 * @param seed whole number below 2^53
 * @returns values in layout order
 * @throws SwarmError ADAPTER_INIT the layout has tensors that start from the base's weights: see initialAdapter
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
      `${other.name} starts from the base's weights, and only the layout was given; use initialAdapter`,
      { tensor: other.name },
    );
  return layout.map((tensor) => randomMatrix(tensor, seed, init));
}

/** One A or B of initialMatrices. */
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
    // The upper 24 bits, as many as a float32 holds, centred: never exactly ±1.
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

/** Pairs of numbers uniform in ±1 → as many normal ones (Box & Muller 1958). */
function normals(centred: readonly number[]): number[] {
  return centred.map((value, j) => {
    const [radius, angle] = j % 2 === 0 ? [value, centred[j + 1]!] : [centred[j - 1]!, value];
    const length = Math.sqrt(-2 * Math.log((radius + 1) / 2));
    return length * (j % 2 === 0 ? Math.cos(Math.PI * angle) : Math.sin(Math.PI * angle));
  });
}
