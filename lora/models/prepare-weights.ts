import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import type { BlockEntry, QuantisedEntry, TableEntry, WeightEntry, WeightFile } from '../engines/weights.ts';
import type { BaseBits } from './base-bits.ts';
import { removeOutdated } from './base-cleanup.ts';
import { describeBase } from './base-identity.ts';
import type { BaseModel } from './base-model.ts';
import { decodeFloats } from './dtypes.ts';
import { weightOf } from './parameters.ts';
import { type Blocks, blockLayout, createQuantiser, type QuantisedBits } from './quantise.ts';
import { TableQuantiser } from './quantise-table.ts';
import { floatDtype, tensorChunks } from './safetensors.ts';
import type { ModelShape } from './targets.ts';
import { Layout, writeAll, writeOnce } from './weight-cache.ts';

/** Increased whenever the same weights become other numbers: files of before are not taken for these. */
const QUANTISATION_VERSION = 3;

/**
 * The weights as one file that an engine maps, converted once per base model and kept in `cacheDir` under the
 * base's digest: all in float32, or with those of the linear modules in fewer bits (see quantise.ts) and the embedding and a
 * tied or untied output head in 8 (see quantise-table.ts). Norms and biases stay float32. Memory stays at a few MiB for
 * float32 and tables, at the rounded copies of one matrix for fewer bits.
 *
 * @throws SwarmError TENSORS_TRUNCATED a file of the model shrank meanwhile
 */
export async function prepareWeights(
  model: BaseModel,
  cacheDir: string,
  { signal, bits = 32 }: { signal?: AbortSignal /** @default 32 */; bits?: BaseBits } = {},
): Promise<WeightFile> {
  const { digest } = await describeBase(model.dir, { signal, cacheDir });
  const path = join(cacheDir, `${digest}${weightFileSuffix(bits)}`);
  const { size, entries, quantised, tables } = layOut(model, bits);
  await writeOnce(path, size, async (handle) => {
    for (const [name, { offset }] of entries) await convert(handle, offset, floatsOf(model, name, signal));
    for (const [name, entry] of quantised) await quantise(handle, entry, floatsOf(model, name, signal));
    for (const [name, entry] of tables) await quantiseTable(handle, entry, floatsOf(model, name, signal));
  });
  await removeOutdated(cacheDir, { version: QUANTISATION_VERSION });
  return bits === 32 ? { path, entries } : { path, entries, quantised, tables };
}

/** How names of the files in the cache end. */
export function weightFileSuffix(bits: BaseBits): string {
  return bits === 32 ? '.f32' : `.q${bits}v${QUANTISATION_VERSION}`;
}

/** Bytes of the file, which are those in memory too: it is mapped, or its numbers are packed for the kernels. */
export function weightFileBytes(model: ModelShape, bits: BaseBits): number {
  return layOut(model, bits).size;
}

function layOut(model: ModelShape, bits: BaseBits) {
  const layout = new Layout();
  const entries = new Map<string, WeightEntry>();
  const quantised = new Map<string, QuantisedEntry>();
  const tables = new Map<string, TableEntry>();
  const { architecture, config } = model;
  const head = weightOf(architecture.head, architecture, config);
  const looked = new Set([architecture.embedding, head]);
  const inFewerBits = quantisable(model);
  for (const { name, shape } of architecture.parameters(config)) {
    if (bits === 32) entries.set(name, placeFloats(layout, shape));
    else if (looked.has(name)) tables.set(name, placeTable(layout, shape));
    else if (inFewerBits.has(name)) quantised.set(name, placeMatrix(layout, shape, bits));
    else entries.set(name, placeFloats(layout, shape));
  }
  return { size: layout.size, entries, quantised, tables };
}

/**
 * Weights of the linear modules but the output head: that one's logits decide between close candidates, and where it is
 * the embedding table it is looked up too. It is kept in 8 bits.
 */
function quantisable({ architecture, config }: ModelShape): Set<string> {
  const modules = architecture.linearModules(config).filter(({ name }) => name !== architecture.head);
  return new Set(modules.map(({ name }) => `${name}.weight`));
}

function placeFloats(layout: Layout, shape: readonly number[]): WeightEntry {
  const length = shape.reduce((product, n) => product * n, Float32Array.BYTES_PER_ELEMENT);
  return { offset: layout.place(length), length, shape };
}

function placeTable(layout: Layout, shape: readonly number[]): TableEntry {
  const [rows, columns] = shape as [number, number];
  const codes = { offset: layout.place(rows * columns), length: rows * columns, shape };
  return { shape: [rows, columns], codes, scales: placeFloats(layout, [rows]) };
}

/** A place in a file for a matrix [rows, columns] of fewer bits. */
export function placeMatrix(layout: Layout, shape: readonly number[], bits: QuantisedBits): QuantisedEntry {
  const [rows, columns] = shape as [number, number];
  const codes = (height: number, width: number): WeightEntry => {
    const { blocks, bytes } = blockLayout(width, bits);
    const length = height * blocks * bytes;
    return { offset: layout.place(length), length, shape: [height, blocks, bytes] };
  };
  const scales = (height: number, width: number) =>
    placeFloats(layout, [height, blockLayout(width, bits).blocks]);
  const plain = { codes: codes(rows, columns), scales: scales(rows, columns) };
  const transposed = {
    codes: codes(columns, rows),
    scales: bits === 8 ? plain.scales : scales(columns, rows),
  };
  return { shape: [rows, columns], bits, plain, transposed };
}

async function* floatsOf(model: BaseModel, name: string, signal?: AbortSignal): AsyncGenerator<Float32Array> {
  const { file, entry } = model.tensors.get(name)!;
  const dtype = floatDtype(file, name, entry.dtype);
  for await (const chunk of tensorChunks(join(model.dir, file), entry)) {
    signal?.throwIfAborted();
    yield decodeFloats(chunk, dtype);
  }
}

async function convert(
  handle: FileHandle,
  offset: number,
  chunks: AsyncIterable<Float32Array>,
): Promise<void> {
  let position = offset;
  for await (const values of chunks) {
    await writeAll(handle, values, position);
    position += values.byteLength;
  }
}

async function quantise(
  handle: FileHandle,
  { shape: [rows, columns], bits, plain, transposed }: QuantisedEntry,
  chunks: AsyncIterable<Float32Array>,
): Promise<void> {
  const quantiser = createQuantiser(rows, columns, bits);
  for await (const values of chunks) quantiser.add(values);
  const copies = quantiser.finish();
  const write = async (entry: BlockEntry, { codes, scales }: Blocks) => {
    await writeAll(handle, codes, entry.codes.offset);
    await writeAll(handle, scales, entry.scales.offset);
  };
  await write(plain, copies.plain);
  await write(transposed, copies.transposed);
}

async function quantiseTable(
  handle: FileHandle,
  { shape: [rows, columns], codes, scales }: TableEntry,
  chunks: AsyncIterable<Float32Array>,
): Promise<void> {
  const quantiser = new TableQuantiser(rows, columns);
  let position = codes.offset;
  for await (const values of chunks) {
    const numbers = quantiser.add(values);
    await writeAll(handle, numbers, position);
    position += numbers.byteLength;
  }
  await writeAll(handle, quantiser.scales, scales.offset);
}
