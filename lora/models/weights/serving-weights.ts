import { join } from 'node:path';
import type { BlockedEntry, WeightEntry, WeightFile } from '../../engines/weights.ts';
import { describeBase } from '../base/base-identity.ts';
import type { BaseModel } from '../base/base-model.ts';
import { jointProducts } from '../joint-products.ts';
import { weightOf } from '../parameters.ts';
import { QUANTISATION_VERSION, readFloats } from './prepare-weights.ts';
import type { QuantisedBits } from './quantise.ts';
import { BLOCK, quantiseBlocks } from './quantise-blocks.ts';
import { Layout, writeAll, writeOnce } from './weight-cache.ts';

/**
 * Converts a base's weights to a file for serving. The file has no transposed copies of the matrices, because
 * there is no backward pass. The matrices are in blocks for the kernel that is fastest for single tokens.
 * Modules with the same input are stored as one matrix (see `jointProducts`). Linear modules have `bits`
 * bits, and the embedding and the output head have 8. Norms, biases and learned positions stay float32.
 *
 * @throws SwarmError MODEL_*, TENSORS_* if the model's files have changed since the model was opened
 */
export async function prepareServingWeights(
  model: BaseModel,
  cacheDir: string,
  { bits, signal }: { bits: QuantisedBits; signal?: AbortSignal },
): Promise<WeightFile> {
  const { digest } = await describeBase(model.dir, { signal, cacheDir });
  const path = join(cacheDir, `${digest}.s${bits}v${QUANTISATION_VERSION}`);
  const { size, entries, blocked } = layOut(model, bits);
  const { architecture, config } = model;
  const parameters = new Map(architecture.parameters(config).map((parameter) => [parameter.name, parameter]));
  await writeOnce(path, size, async (handle) => {
    for (const [name, { offset }] of entries) {
      let position = offset;
      for await (const values of readFloats(model, name, signal)) {
        await writeAll(handle, values, position);
        position += values.byteLength;
      }
    }
    for (const [joint, { codes, scales, ...entry }] of blocked) {
      let row = 0;
      for (const name of joint.split('+')) {
        const { shape } = parameters.get(name)!;
        const made = await quantiseBlocks(readFloats(model, name, signal), {
          ...entry,
          shape: matrix(shape),
        });
        await writeAll(handle, made.codes, codes.offset + row * rowBytes(codes));
        await writeAll(handle, made.scales, scales.offset + row * rowBytes(scales));
        row += shape[entry.isTransposed ? 1 : 0]!;
      }
    }
  });
  return { path, entries, blocked };
}

function layOut(model: BaseModel, bits: QuantisedBits) {
  const { architecture, config } = model;
  const layout = new Layout();
  const entries = new Map<string, WeightEntry>();
  const blocked = new Map<string, BlockedEntry>();
  const modules = architecture.linearModules(config);
  const conv1d = new Set(modules.filter((module) => module.conv1d).map(({ name }) => `${name}.weight`));
  const tables = new Set([architecture.embedding, weightOf(architecture.head, architecture, config)]);
  const linear = new Set(modules.map(({ name }) => `${name}.weight`));
  const joint = jointProducts(model);
  const inJoint = new Set(joint.flatMap(({ name }) => name.split('+')));
  const place = (shape: readonly number[], width: number): WeightEntry => {
    const length = shape.reduce((product, size) => product * size, width);
    return { offset: layout.place(length), length, shape };
  };
  const block = (name: string, shape: readonly [number, number]): void => {
    const isTransposed = conv1d.has(name);
    const [out, width] = isTransposed ? [shape[1], shape[0]] : shape;
    const own = tables.has(name) ? 8 : bits;
    const blocks = Math.ceil(width / BLOCK);
    const codes = place([out, blocks, (BLOCK * own) / 8], 1);
    const scales = place([out, blocks], Float32Array.BYTES_PER_ELEMENT);
    blocked.set(name, { shape, isTransposed, bits: own, codes, scales });
  };
  for (const { name, shape } of architecture.parameters(config)) {
    if (inJoint.has(name)) continue;
    if (tables.has(name) || linear.has(name)) block(name, matrix(shape));
    else entries.set(name, place(shape, Float32Array.BYTES_PER_ELEMENT));
  }
  for (const { name, shape } of joint) block(name, shape);
  return { size: layout.size, entries, blocked };
}

function matrix(shape: readonly number[]): readonly [number, number] {
  return shape as readonly [number, number];
}

/** Returns the size of one row in bytes. */
function rowBytes({ length, shape }: WeightEntry): number {
  return length / shape[0]!;
}
