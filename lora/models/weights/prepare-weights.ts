import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import type {
  BlockEntry,
  QuantisedEntry,
  TableEntry,
  WeightEntry,
  WeightFile,
} from '../../engines/weights.ts';
import type { BaseBits } from '../base/base-bits.ts';
import { type OnUndeleted, removeOutdated } from '../base/base-cleanup.ts';
import { describeBase } from '../base/base-identity.ts';
import type { BaseModel } from '../base/base-model.ts';
import { weightOf } from '../parameters.ts';
import type { ModelShape } from '../targets.ts';
import { decodeFloats } from './dtypes.ts';
import { blockLayout, createQuantiser, type QuantisedBits } from './quantise.ts';
import { TableQuantiser } from './quantise-table.ts';
import type { Blocks } from './quantiser.ts';
import { floatDtype, tensorChunks } from './safetensors.ts';
import { DIGEST_BYTES, Layout, writeAll, writeChecked } from './weight-cache.ts';

/** Incremented when quantisation changes its results, so that older cached files are not used. */
export const QUANTISATION_VERSION = 4;

/**
 * Converts a base's weights to one file that an engine memory-maps. Each base is converted once; the file is kept in
 * `cacheDir` under the base's digest. At 32 bits all weights are float32. At 8 and 4 bits, linear modules have `bits`
 * bits (see quantise.ts), the embedding and the output head have 8 bits (see quantise-table.ts), and norms and biases
 * stay float32. Conversion needs a few MiB of memory, plus the original and the quantised copy of one matrix at a
 * time. Each call reads the whole file, and converts the base again if the file is damaged.
 *
 * @throws SwarmError MODEL_*, TENSORS_* if the model's files have changed since the model was opened
 */
export async function prepareWeights(
  model: BaseModel,
  cacheDir: string,
  {
    signal,
    bits = 32,
    onUndeleted = () => {},
    onDamaged = () => {},
  }: {
    signal?: AbortSignal;
    /** @default 32 */
    bits?: BaseBits;
    /** Called for outdated weights in `cacheDir` that could not be deleted. @default ignores them */
    onUndeleted?: OnUndeleted;
    /** Called with the path of a damaged file, before it is written again. @default ignores it */
    onDamaged?: (path: string) => void;
  } = {},
): Promise<WeightFile> {
  const { digest } = await describeBase(model.dir, { signal, cacheDir });
  const path = join(cacheDir, `${digest}${weightFileSuffix(bits)}`);
  const { size, entries, quantised, tables } = layOut(model, bits);
  const write = async (handle: FileHandle): Promise<void> => {
    for (const [name, { offset }] of entries) await convert(handle, offset, readFloats(model, name, signal));
    for (const [name, entry] of quantised) await quantise(handle, entry, readFloats(model, name, signal));
    for (const [name, entry] of tables) await quantiseTable(handle, entry, readFloats(model, name, signal));
  };
  await writeChecked(path, size, write, { signal, onDamaged });
  await removeOutdated(cacheDir, { version: QUANTISATION_VERSION, onUndeleted });
  return bits === 32 ? { path, entries } : { path, entries, quantised, tables };
}

/** Describes, in one line of text, a damaged weight file. */
export function damagedLine(path: string): string {
  return `the converted weights in ${path} are damaged; they are converted again`;
}

/** Returns the suffix of the name of a cached weight file. */
export function weightFileSuffix(bits: BaseBits): string {
  return bits === 32 ? '.f32' : `.q${bits}v${QUANTISATION_VERSION}`;
}

/**
 * Returns the size of the weights in the weight file in bytes. They take the same amount of memory, whether an engine maps the
 * file or packs the weights for its kernels.
 */
export function weightFileBytes(model: ModelShape, bits: BaseBits): number {
  return layOut(model, bits).size;
}

/** Returns the size of the weight file on the disk in bytes: the weights and their digest. */
export function weightFileDiskBytes(model: ModelShape, bits: BaseBits): number {
  return weightFileBytes(model, bits) + DIGEST_BYTES;
}

function layOut(model: ModelShape, bits: BaseBits) {
  const layout = new Layout();
  const entries = new Map<string, WeightEntry>();
  const quantised = new Map<string, QuantisedEntry>();
  const tables = new Map<string, TableEntry>();
  const { architecture, config } = model;
  const head = weightOf(architecture.head, architecture, config);
  const tableNames = new Set([architecture.embedding, head]);
  const inFewerBits = quantisable(model);
  for (const { name, shape } of architecture.parameters(config)) {
    if (bits === 32) entries.set(name, placeFloats(layout, shape));
    else if (tableNames.has(name)) tables.set(name, placeTable(layout, shape));
    else if (inFewerBits.has(name)) quantised.set(name, placeMatrix(layout, shape, bits));
    else entries.set(name, placeFloats(layout, shape));
  }
  return { size: layout.size, entries, quantised, tables };
}

/**
 * Returns the names of the weights that may have fewer than 8 bits: the weights of all linear modules except the output
 * head. The head always has 8 bits, because with fewer bits, the logits of tokens with similar probabilities could swap
 * their order.
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

/** Reserves space in a file for a quantised matrix [rows, columns]. */
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

/** Yields the values of a parameter in float32, in pieces. */
export async function* readFloats(
  model: BaseModel,
  name: string,
  signal?: AbortSignal,
): AsyncGenerator<Float32Array> {
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
