import { copyFile, cp, mkdir, readdir, rm, rmdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { commonError } from '../../common/common-errors.ts';
import { renameDurably, writeDurably } from '../../common/durable.ts';
import { DESCRIBED_FILES, type DescribeOptions, TOOL_TEMPLATE_FILE } from '../models/base/base-identity.ts';
import { type BaseModel, isUnused, listFiles } from '../models/base/base-model.ts';
import { magnitudeName, matrixName } from '../models/lora.ts';
import { decodeFloats, encodeFloats } from '../models/weights/dtypes.ts';
import { floatDtype } from '../models/weights/safetensors.ts';
import { type StreamedTensor, writeSafetensors } from '../models/weights/safetensors-writer.ts';
import { INDEX_FILE, type TensorLocation } from '../models/weights/tensors.ts';
import { rowBlocks, rowNorms } from './base-rows.ts';
import { checkBase } from './check-base.ts';
import { checkFinite } from './codec.ts';
import { type Delta, deltaOf } from './delta.ts';
import { adapterError } from './errors.ts';
import type { Adapter } from './peft.ts';
import { adapterPlan } from './plan.ts';

/** Files that are copied besides config and tokenizer, because other programs read them from a model folder. */
const COMPANIONS = ['added_tokens.json', 'merges.txt', 'vocab.json', 'tokenizer.model', 'LICENSE', 'NOTICE'];

/** Change of one weight: either a low-rank delta (with DoRA, also a factor per output) or new values. */
type Change =
  | { readonly delta: Delta; readonly factor: Float32Array | null; readonly conv1d: boolean }
  | { readonly values: Float32Array };

/**
 * Merges an adapter into its base and writes the merged model, an ordinary Hugging Face folder that needs no adapter. W
 * becomes W + s·B A. With DoRA, W becomes m/‖W + s·BA‖ ⊙ (W + s·B A), with one norm for each row of the [out, in]
 * weight. Saved modules and trained biases replace those of the base. Every tensor keeps its element type and its file;
 * config and tokenizer are copied. Weights are processed in blocks of a few MiB. The folder appears complete or not at
 * all.
 *
 * @param outDir must not exist, or must be empty
 * @throws SwarmError ADAPTER_BASE the adapter was trained on another base, or does not fit this one
 * @throws SwarmError ADAPTER_TIED_HEAD the embedding and output head are tied, and the adapter changes only one of them
 * @throws SwarmError ADAPTER_NOT_FINITE a merged weight overflows its element type or is not a number
 * @throws SwarmError OUTPUT_EXISTS `outDir` is not empty
 */
export async function mergeIntoBase(
  model: BaseModel,
  adapter: Adapter,
  outDir: string,
  options: DescribeOptions = {},
): Promise<void> {
  await checkBase(model, adapter, options);
  const changes = await changesByWeight(model, adapter, options.signal);
  await refuseExisting(outDir);
  const partial = join(dirname(outDir), `.${basename(outDir)}.${process.pid}.partial`);
  await rm(partial, { recursive: true, force: true });
  await mkdir(partial, { recursive: true });
  try {
    const present = await listFiles(model.dir);
    for (const file of [...DESCRIBED_FILES, ...COMPANIONS]) {
      if (present.has(file)) await copyFile(join(model.dir, file), join(partial, file));
    }
    const templates = dirname(TOOL_TEMPLATE_FILE);
    if (present.has(templates)) {
      const to = join(partial, templates);
      await cp(join(model.dir, templates), to, { recursive: true, dereference: true });
    }
    await writeWeights(model, changes, partial, options.signal);
    await renameDurably(partial, outDir);
  } catch (error) {
    await rm(partial, { recursive: true, force: true });
    throw error;
  }
}

async function changesByWeight(
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

async function writeWeights(
  model: BaseModel,
  changes: ReadonlyMap<string, Change>,
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
    const data = () => mergedBlocks(model.dir, name, location, changes.get(name) ?? null, signal);
    tensors.push({ name, dtype: floatDtype(file, name, entry.dtype), shape: entry.shape, data });
    weightMap[name] = file;
    totalSize += entry.length;
  }
  for (const [file, tensors] of byFile) await writeSafetensors(join(outDir, file), tensors);
  if ((await listFiles(outDir)).has(INDEX_FILE)) {
    const index = { metadata: { total_size: totalSize }, weight_map: weightMap };
    const text = `${JSON.stringify(index, null, 2)}\n`;
    await writeDurably(join(outDir, INDEX_FILE), text);
  }
}

/** Yields the bytes of one merged tensor, in the element type of the base. */
async function* mergedBlocks(
  dir: string,
  name: string,
  location: TensorLocation,
  change: Change | null,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const dtype = floatDtype(location.file, name, location.entry.dtype);
  const width = location.entry.shape.at(-1) ?? 1;
  let row = 0;
  for await (const chunk of rowBlocks(dir, name, location, signal)) {
    if (change === null) {
      yield chunk;
      continue;
    }
    const values = decodeFloats(chunk, dtype);
    if ('values' in change) {
      values.set(change.values.subarray(row * width, row * width + values.length));
      row += values.length / width;
    } else {
      for (let start = 0; start < values.length; start += width)
        mergeRow(values.subarray(start, start + width), change, row++);
    }
    const bytes = encodeFloats(values, dtype);
    checkFinite(decodeFloats(bytes, dtype), name, location.file);
    yield bytes;
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

async function refuseExisting(dir: string): Promise<void> {
  const entries = await readdir(dir).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
  if (entries === null) return;
  if (entries.length > 0)
    throw commonError(
      'OUTPUT_EXISTS',
      `${dir} exists and is not empty`,
      { dir },
      { next: 'choose another folder' },
    );
  // Windows cannot rename a folder onto an existing folder, even onto an empty one.
  await rmdir(dir);
}
