import type { BaseModel } from '../models/base/base-model.ts';
import { magnitudeName, matrixName } from '../models/lora.ts';
import { decodeFloats } from '../models/weights/dtypes.ts';
import { floatDtype } from '../models/weights/safetensors.ts';
import { rowBlocks, rowNorms } from './base-rows.ts';
import { type Delta, deltaOf } from './delta.ts';
import { adapterError } from './errors.ts';
import type { Adapter } from './peft.ts';
import { adapterPlan } from './plan.ts';

/** Change of one weight: either a low-rank delta (with DoRA, also a factor per output) or new values. */
export type Change =
  | { readonly delta: Delta; readonly factor: Float32Array | null; readonly conv1d: boolean }
  | { readonly values: Float32Array };

/**
 * Computes how an adapter changes each weight of its base.
 * @returns the changes by the name of the weight
 * @throws SwarmError ADAPTER_TIED_HEAD if the embedding and output head are tied, and the adapter changes
 *   only one of them
 */
export async function changesByWeight(
  model: BaseModel,
  adapter: Adapter,
  signal?: AbortSignal,
): Promise<Map<string, Change>> {
  const { architecture, config } = model;
  const plan = adapterPlan(model, adapter.lora);
  const values = new Map(adapter.layout.map(({ name }, i) => [name, adapter.tensors[i]!]));
  const tied = [`${architecture.head}.weight`, architecture.embedding];
  const changed = [
    ...plan.modules.map(({ name }) => `${name}.weight`),
    ...plan.copies.map((copy) => copy.parameter),
  ];
  const shared = config.tieWordEmbeddings ? changed.find((name) => tied.includes(name)) : undefined;
  if (shared !== undefined)
    throw adapterError(
      'ADAPTER_TIED_HEAD',
      `the adapter changes ${shared}, which embedding and output head share, so merging would change both`,
      { parameter: shared },
    );
  const changes = new Map<string, Change>();
  for (const module of plan.modules) {
    const a = values.get(matrixName(module, 'A'))!;
    const b = values.get(matrixName(module, 'B'))!;
    const delta = deltaOf(module, a, b);
    const magnitude = values.get(magnitudeName(module.name));
    const factor = magnitude ? ratio(magnitude, await rowNorms(model, module, delta, signal)) : null;
    changes.set(`${module.name}.weight`, { delta, factor, conv1d: module.conv1d });
  }
  for (const { parameter, tensor } of plan.copies) changes.set(parameter, { values: values.get(tensor)! });
  return changes;
}

function ratio(a: Float32Array, b: Float32Array): Float32Array {
  return a.map((value, i) => value / b[i]!);
}

/**
 * Yields the values of one merged tensor in blocks of whole rows, before they are rounded to an element type.
 * @param change undefined if the adapter does not change the tensor
 */
export async function* mergedValues(
  model: BaseModel,
  name: string,
  change: Change | undefined,
  signal?: AbortSignal,
): AsyncGenerator<Float32Array> {
  const location = model.tensors.get(name)!;
  const dtype = floatDtype(location.file, name, location.entry.dtype);
  const width = location.entry.shape.at(-1) ?? 1;
  let row = 0;
  for await (const chunk of rowBlocks(model.dir, name, location, signal)) {
    const values = decodeFloats(chunk, dtype);
    if (change !== undefined && 'values' in change) {
      values.set(change.values.subarray(row * width, row * width + values.length));
      row += values.length / width;
    } else if (change !== undefined) {
      for (let start = 0; start < values.length; start += width)
        mergeRow(values.subarray(start, start + width), change, row++);
    }
    yield values;
  }
}

function mergeRow(
  w: Float32Array,
  { delta, factor, conv1d }: Exclude<Change, { values: unknown }>,
  row: number,
): void {
  delta.addRow(w, row);
  if (factor === null) return;
  for (let j = 0; j < w.length; j++) w[j] = w[j]! * factor[conv1d ? j : row]!;
}
