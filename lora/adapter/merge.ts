import { copyFile, mkdir, readdir, rename, rm, rmdir, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { SwarmError } from '../../protocol/errors.ts';
import { DESCRIBED_FILES, describeBase } from '../models/base.ts';
import { DTYPE_BYTES, decodeFloats, encodeFloats } from '../models/dtypes.ts';
import { isUnused, listFiles, type Model } from '../models/folder.ts';
import { loraTensorName } from '../models/lora.ts';
import { floatDtype, tensorChunks } from '../models/safetensors.ts';
import { type StreamedTensor, writeSafetensors } from '../models/safetensors-writer.ts';
import { INDEX_FILE, type TensorLocation } from '../models/tensors.ts';
import { checkFinite } from './codec.ts';
import { adapterLayout, adapterModules } from './layout.ts';
import type { Adapter } from './peft.ts';

/** Files that other readers of a merged model want besides those that describe it. */
const COMPANIONS = ['added_tokens.json', 'merges.txt', 'vocab.json', 'tokenizer.model', 'LICENSE', 'NOTICE'];

/** Weights worked on at a time, in bytes. */
const BLOCK_BYTES = 4 * 2 ** 20;

interface LowRank {
  readonly a: Float32Array;
  readonly b: Float32Array;
  readonly rank: number;
  readonly scale: number;
}

/**
 * Writes a model folder with W + (α/r)·B A in place of every adapted W: an ordinary Hugging Face model that
 * needs no adapter. Every tensor keeps its element type and its file; config and tokenizer are copied. Weights
 * pass through in blocks of a few MiB. The folder appears whole or not at all.
 *
 * @param outDir must not exist, or be empty
 * @throws SwarmError ADAPTER_BASE the adapter was trained on another base, or does not fit this model
 * @throws SwarmError ADAPTER_TIED_HEAD it adapts an output head that shares its weights with the embedding
 * @throws SwarmError ADAPTER_NOT_FINITE a merged weight overflows its element type or is not a number
 * @throws SwarmError OUTPUT_EXISTS
 */
export async function mergeAdapter(
  model: Model,
  adapter: Adapter,
  outDir: string,
  options: { signal?: AbortSignal } = {},
): Promise<void> {
  await checkBase(model, adapter, options.signal);
  const deltas = lowRankByWeight(model, adapter);
  await refuseExisting(outDir);
  const partial = join(dirname(outDir), `.${basename(outDir)}.${process.pid}.partial`);
  await rm(partial, { recursive: true, force: true });
  await mkdir(partial, { recursive: true });
  try {
    const present = await listFiles(model.dir);
    for (const file of [...DESCRIBED_FILES, ...COMPANIONS]) {
      if (present.has(file)) await copyFile(join(model.dir, file), join(partial, file));
    }
    await writeWeights(model, deltas, partial, options.signal);
    await rename(partial, outDir);
  } catch (error) {
    await rm(partial, { recursive: true, force: true });
    throw error;
  }
}

async function checkBase(model: Model, adapter: Adapter, signal?: AbortSignal): Promise<void> {
  const expected = adapterLayout(model, adapter.lora);
  if (JSON.stringify(expected) !== JSON.stringify(adapter.layout))
    throw new SwarmError('ADAPTER_BASE', `the adapter's tensors are not those of the model in ${model.dir}`, {
      dir: model.dir,
    });
  if (adapter.baseDigest === null) return;
  const { digest } = await describeBase(model.dir, { signal });
  if (digest !== adapter.baseDigest)
    throw new SwarmError(
      'ADAPTER_BASE',
      `the adapter was trained on the base ${adapter.baseDigest}, ${model.dir} is ${digest}; merge it into the base it was trained on`,
      { expected: adapter.baseDigest, found: digest },
    );
}

function lowRankByWeight(model: Model, adapter: Adapter): Map<string, LowRank> {
  const { rank, alpha } = adapter.lora;
  const values = new Map(adapter.layout.map(({ name }, i) => [name, adapter.tensors[i]!]));
  const deltas = new Map<string, LowRank>();
  for (const { name } of adapterModules(model, adapter.lora)) {
    if (name === 'lm_head' && model.config.tieWordEmbeddings)
      throw new SwarmError(
        'ADAPTER_TIED_HEAD',
        'the adapter changes the output head, which shares its weights with the embedding: merging would change both; use the adapter unmerged',
        { module: name },
      );
    const a = values.get(loraTensorName(name, 'A'))!;
    const b = values.get(loraTensorName(name, 'B'))!;
    deltas.set(`${name}.weight`, { a, b, rank, scale: alpha / rank });
  }
  return deltas;
}

async function writeWeights(
  model: Model,
  deltas: ReadonlyMap<string, LowRank>,
  outDir: string,
  signal?: AbortSignal,
): Promise<void> {
  const byFile = new Map<string, StreamedTensor[]>();
  const weightMap: Record<string, string> = {};
  let totalSize = 0;
  for (const [name, location] of [...model.tensors].sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (isUnused(name, model.config)) continue;
    const { file, entry } = location;
    const tensors = byFile.get(file) ?? [];
    byFile.set(file, tensors);
    const data = () => mergedBlocks(model.dir, name, location, deltas.get(name) ?? null, signal);
    tensors.push({ name, dtype: floatDtype(file, name, entry.dtype), shape: entry.shape, data });
    weightMap[name] = file;
    totalSize += entry.length;
  }
  for (const [file, tensors] of byFile) await writeSafetensors(join(outDir, file), tensors);
  if ((await listFiles(outDir)).has(INDEX_FILE)) {
    const index = { metadata: { total_size: totalSize }, weight_map: weightMap };
    await writeFile(join(outDir, INDEX_FILE), `${JSON.stringify(index, null, 2)}\n`);
  }
}

/** The bytes of one tensor, with the low-rank change added row by row. */
async function* mergedBlocks(
  dir: string,
  name: string,
  { file, entry }: TensorLocation,
  delta: LowRank | null,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const dtype = floatDtype(file, name, entry.dtype);
  const width = entry.shape.at(-1) ?? 1;
  const rowBytes = width * DTYPE_BYTES[dtype]!;
  const block = Math.max(1, Math.floor(BLOCK_BYTES / rowBytes)) * rowBytes;
  let row = 0;
  for await (const chunk of tensorChunks(join(dir, file), entry, block)) {
    signal?.throwIfAborted();
    if (delta === null) {
      yield chunk;
      continue;
    }
    const values = decodeFloats(chunk, dtype);
    for (let start = 0; start < values.length; start += width)
      addRow(values.subarray(start, start + width), delta, row++);
    const bytes = encodeFloats(values, dtype);
    checkFinite(decodeFloats(bytes, dtype), name, file);
    yield bytes;
  }
}

/** w += (α/r)·(B A)[row], summed in double precision and rounded once. */
function addRow(w: Float32Array, { a, b, rank, scale }: LowRank, row: number): void {
  const change = new Float64Array(w.length);
  for (let r = 0; r < rank; r++) {
    const factor = scale * b[row * rank + r]!;
    const start = r * w.length;
    for (let j = 0; j < w.length; j++) change[j] = change[j]! + factor * a[start + j]!;
  }
  for (let j = 0; j < w.length; j++) w[j] = w[j]! + change[j]!;
}

async function refuseExisting(dir: string): Promise<void> {
  const entries = await readdir(dir).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
  if (entries === null) return;
  if (entries.length > 0)
    throw new SwarmError('OUTPUT_EXISTS', `${dir} exists and is not empty; name another folder`, { dir });
  // Renaming onto an empty folder works on POSIX only.
  await rmdir(dir);
}
