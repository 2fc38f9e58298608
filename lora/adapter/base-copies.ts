import { join } from 'node:path';
import type { BaseModel } from '../models/base/base-model.ts';
import { savedName } from '../models/lora.ts';
import { weightOf } from '../models/parameters.ts';
import { readTensor, type SafetensorsHeader } from '../models/weights/safetensors.ts';
import { adapterError } from './errors.ts';
import type { AdapterLayout } from './layout.ts';

/**
 * Largest relative difference that rounding to a 16-bit type causes. It occurs with bfloat16, whose
 * significand has only 8 bits. The significand of float16 has 11 bits.
 */
const RELATIVE = 2 ** -8;
/**
 * Largest absolute difference that rounding to float16 causes near zero. It is half of float16's smallest subnormal
 * number.
 */
const NEAR_ZERO = 2 ** -25;

/**
 * Removes copies of frozen base weights from the header of an adapter file, after comparing them with the base. PEFT adds
 * such copies if the embedding or the output head is a target (`save_embedding_layers`); they are not part of the adapter.
 *
 * @throws SwarmError ADAPTER_BASE if a copy differs from the base's weight, so the adapter was made for
 *   another base
 */
export async function withoutBaseCopies(
  path: string,
  header: SafetensorsHeader,
  layout: AdapterLayout,
  model: BaseModel,
): Promise<SafetensorsHeader> {
  const { head, embedding } = model.architecture;
  const headWeight = weightOf(head, model.architecture, model.config);
  const copies = new Map([
    [savedName(embedding), embedding],
    [savedName(embedding.replace(/\.weight$/, '.base_layer.weight')), embedding],
    [savedName(`${head}.weight`), headWeight],
    [savedName(`${head}.base_layer.weight`), headWeight],
  ]);
  for (const { name } of layout) copies.delete(name);
  const entries = new Map(header.entries);
  for (const [tensor, parameter] of copies) {
    const entry = entries.get(tensor);
    if (entry === undefined) continue;
    const { file, entry: own } = model.tensors.get(parameter)!;
    const same = entry.length / own.length === width(entry.dtype) / width(own.dtype);
    if (!same || differ(await readTensor(path, entry), await readTensor(join(model.dir, file), own)))
      throw adapterError(
        'ADAPTER_BASE',
        `${tensor} in ${path} differs from ${parameter} of ${model.dir}: the adapter was made for another base`,
        { file: path, tensor, parameter },
      );
    entries.delete(tensor);
  }
  return { ...header, entries };
}

function width(dtype: string): number {
  return dtype === 'F32' ? 4 : 2;
}

function differ(a: Float32Array, b: Float32Array): boolean {
  return a.some((value, i) => !(Math.abs(value - b[i]!) <= RELATIVE * Math.abs(b[i]!) + NEAR_ZERO));
}
