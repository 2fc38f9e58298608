import { mkdir, readdir, realpath, rm, rmdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { commonError } from '../../common/common-errors.ts';
import { renameDurably, writeDurably } from '../../common/files/durable.ts';
import { copyBytes, nullIfMissing } from '../../common/files/file-system.ts';
import { DESCRIBED_FILES, type DescribeOptions, TOOL_TEMPLATE_FILE } from '../models/base/base-identity.ts';
import { type BaseModel, isUnused, listFiles } from '../models/base/base-model.ts';
import { decodeFloats, encodeFloats } from '../models/weights/dtypes.ts';
import { floatDtype } from '../models/weights/safetensors.ts';
import { type StreamedTensor, writeSafetensors } from '../models/weights/safetensors-writer.ts';
import { INDEX_FILE } from '../models/weights/tensors.ts';
import { CHAT_TEMPLATE_FILE } from './adapter-template.ts';
import { rowBlocks } from './base-rows.ts';
import { checkBase } from './check-base.ts';
import { checkFinite } from './codec.ts';
import { type Change, changesByWeight, mergedValues } from './merged-weights.ts';
import { ADAPTER_CONFIG_FILE, type Adapter } from './peft.ts';

/** Files that are copied in addition to config and tokenizer, because other programs read them from a model folder. */
const COMPANIONS = ['added_tokens.json', 'merges.txt', 'vocab.json', 'tokenizer.model'];
const LICENCES = ['LICENSE', 'NOTICE'];

interface MergeOptions extends DescribeOptions {
  readonly template?: string | null;
  readonly force?: boolean;
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Merges an adapter into its base and writes the merged model, an ordinary Hugging Face folder that needs no adapter. W
 * becomes W + s·B A. With DoRA, W becomes m/‖W + s·BA‖ ⊙ (W + s·B A), with one norm for each row of the [out, in]
 * weight. Saved modules and trained biases replace the parameters of the base. Every tensor keeps its element type and
 * its file; config and tokenizer are copied. Weights are processed in blocks of a few MiB. A new folder appears complete
 * or not at all. If the folder already contains files, the complete files of the model are moved into it one by one.
 *
 * @param outDir must not exist, or must be empty, unless `force` is set
 * @param options.force replaces the model in `outDir`; other files in the folder, and its licence, stay. @default false
 * @param options.onProgress called with the bytes of weights that have been written, and with their total number
 * @param options.template file of a chat template that replaces the base's templates. @default null, the base's templates
 * @throws SwarmError ADAPTER_BASE if the adapter was trained on another base, or does not fit this one
 * @throws SwarmError ADAPTER_TIED_HEAD if the embedding and output head are tied, and the adapter changes
 *   only one of them
 * @throws SwarmError ADAPTER_NOT_FINITE if a merged weight overflows its element type or is not a number
 * @throws SwarmError OUTPUT_EXISTS if `outDir` is not empty and `force` is not set, or if it is the folder of the base or of
 *   an adapter
 */
export async function mergeIntoBase(
  model: BaseModel,
  adapter: Adapter,
  outDir: string,
  { template = null, force = false, onProgress = () => {}, ...options }: MergeOptions = {},
): Promise<void> {
  await checkBase(model, adapter, options);
  const changes = await changesByWeight(model, adapter, options.signal);
  await refuseExisting(outDir, { force, base: model.dir });
  const output = (await realpath(outDir).catch(nullIfMissing)) ?? outDir;
  // The model is written to a temporary folder, and then renamed. Renaming works only within one disk, and a folder that
  // already exists may be on another disk than its parent. The temporary folder is therefore inside such a folder.
  const isKept = (await entriesOf(output)).length > 0;
  const partial = join(isKept ? output : dirname(output), `.${basename(output)}.${process.pid}.partial`);
  await rm(partial, { recursive: true, force: true });
  await mkdir(partial, { recursive: true });
  try {
    const present = await listFiles(model.dir);
    for (const file of [...DESCRIBED_FILES, ...COMPANIONS, ...LICENCES]) {
      if (present.has(file)) await copyBytes(join(model.dir, file), join(partial, file));
    }
    const templates = dirname(TOOL_TEMPLATE_FILE);
    // The base's template for conversations with tools fits only the base's own chat template. If another
    // chat template replaces the base's own, the template for tools is left out.
    if (template !== null) await copyBytes(template, join(partial, CHAT_TEMPLATE_FILE));
    else if (present.has(templates)) {
      await mkdir(join(partial, templates));
      for (const name of await readdir(join(model.dir, templates))) {
        if (name.endsWith('.jinja'))
          await copyBytes(join(model.dir, templates, name), join(partial, templates, name));
      }
    }
    await writeWeights(model, changes, partial, { signal: options.signal, onProgress });
    // Checks again, because another program may have written to the folder meanwhile.
    await refuseExisting(outDir, { force, base: model.dir });
    await (isKept ? replaceModel(partial, output) : renameFolder(partial, output));
  } catch (error) {
    await rm(partial, { recursive: true, force: true });
    throw error;
  }
}

async function writeWeights(
  model: BaseModel,
  changes: ReadonlyMap<string, Change>,
  outDir: string,
  { signal, onProgress }: Required<Pick<MergeOptions, 'onProgress'>> & Pick<MergeOptions, 'signal'>,
): Promise<void> {
  const byFile = new Map<string, StreamedTensor[]>();
  const weightMap: Record<string, string> = {};
  let totalSize = 0;
  let written = 0;
  const count = (bytes: number): void => {
    written += bytes;
    onProgress(written, totalSize);
  };
  for (const [name, { file, entry }] of [...model.tensors].sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (isUnused(name, model.config)) continue;
    const tensors = byFile.get(file) ?? [];
    byFile.set(file, tensors);
    const data = () => counted(mergedBlocks(model, name, changes.get(name), signal), count);
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

/** Passes on blocks, and reports the length of each block when the next one is asked for. */
async function* counted(
  blocks: AsyncIterable<Uint8Array>,
  count: (bytes: number) => void,
): AsyncGenerator<Uint8Array> {
  for await (const block of blocks) {
    yield block;
    count(block.byteLength);
  }
}

/** Yields the bytes of one merged tensor, in the element type of the base. */
async function* mergedBlocks(
  model: BaseModel,
  name: string,
  change: Change | undefined,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const location = model.tensors.get(name)!;
  if (change === undefined) {
    yield* rowBlocks(model.dir, name, location, signal);
    return;
  }
  const dtype = floatDtype(location.file, name, location.entry.dtype);
  for await (const values of mergedValues(model, name, change, signal)) {
    const bytes = encodeFloats(values, dtype);
    checkFinite(decodeFloats(bytes, dtype), name, location.file);
    yield bytes;
  }
}

/** @throws SwarmError OUTPUT_EXISTS if the folder is the base's own or an adapter's, or has entries and `force` is not set */
async function refuseExisting(dir: string, { force, base }: { force: boolean; base: string }): Promise<void> {
  const entries = await entriesOf(dir);
  if (entries.length === 0) return;
  const isBase = (await realpath(dir)) === (await realpath(base));
  // A program that finds adapter_config.json beside a model would apply that adapter to the merged model.
  const isAdapter = entries.includes(ADAPTER_CONFIG_FILE);
  if (force && !isBase && !isAdapter) return;
  const what = isBase
    ? 'is the folder of the base'
    : isAdapter
      ? 'is the folder of an adapter'
      : 'exists and is not empty';
  throw commonError('OUTPUT_EXISTS', `${dir} ${what}`, { dir }, { next: 'choose another folder' });
}

/** Replaces the model in a folder by the complete model in `partial`. */
async function replaceModel(partial: string, folder: string): Promise<void> {
  const added = await readdir(partial);
  const kept = (await entriesOf(folder)).filter((entry) => LICENCES.includes(entry));
  for (const entry of added.filter((name) => !kept.includes(name))) {
    // A folder cannot be renamed onto a folder with files, so the old folder is removed first.
    if (entry === dirname(TOOL_TEMPLATE_FILE))
      await rm(join(folder, entry), { recursive: true, force: true });
    await renameDurably(join(partial, entry), join(folder, entry));
  }
  await rm(partial, { recursive: true });
  // A file of the old model that stays could be read as a part of the new model.
  const stale = (await entriesOf(folder)).filter((entry) => isModelEntry(entry) && !added.includes(entry));
  for (const entry of stale) await rm(join(folder, entry), { recursive: true });
}

/** Renames a folder to a path that does not exist, or that is an empty folder. */
async function renameFolder(from: string, to: string): Promise<void> {
  // Windows cannot rename a folder onto an existing folder, even onto an empty one.
  await rmdir(to).catch(nullIfMissing);
  await renameDurably(from, to);
}

function isModelEntry(name: string): boolean {
  const files = [...DESCRIBED_FILES, ...COMPANIONS, dirname(TOOL_TEMPLATE_FILE)];
  return files.includes(name) || /^model(-\d+-of-\d+)?\.safetensors$/.test(name);
}

/** Returns the names in a folder; none if it does not exist. */
async function entriesOf(dir: string): Promise<string[]> {
  return (await readdir(dir).catch(nullIfMissing)) ?? [];
}
