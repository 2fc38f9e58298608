import { mkdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isSwarmError } from '../../common/errors.ts';
import { writeDurably } from '../../common/files/durable.ts';
import type { BaseModel } from '../models/base/base-model.ts';
import { readJsonObject } from '../models/json.ts';
import { readHeader, readTensor } from '../models/weights/safetensors.ts';
import { CHAT_TEMPLATE_FILE } from './adapter-template.ts';
import { withoutBaseCopies } from './base-copies.ts';
import {
  BASE_DIGEST_KEY,
  checkFinite,
  encodeAdapter,
  MAX_ADAPTER_HEADER_BYTES,
  matchEntries,
} from './codec.ts';
import { type AdapterLayout, adapterLayout } from './layout.ts';
import type { LoraConfig } from './lora-config.ts';
import { encodePeftConfig, nextBase, type PeftConfig, parsePeftConfig } from './peft-config.ts';

export const ADAPTER_CONFIG_FILE = 'adapter_config.json';
export const ADAPTER_WEIGHTS_FILE = 'adapter_model.safetensors';

/** Maximum size of adapter_config.json in bytes; long target lists take a few KiB. */
export const MAX_CONFIG_BYTES = 2 ** 20;

/** An adapter read from a folder: settings, layout and values. */
export interface Adapter extends PeftConfig {
  readonly layout: AdapterLayout;
  /** Values of the tensors, in layout order. */
  readonly tensors: readonly Float32Array[];
  /** Digest of the adapter's base (see describeBase); null if another program wrote the adapter. */
  readonly baseDigest: string | null;
}

export interface AdapterToWrite {
  readonly layout: AdapterLayout;
  readonly tensors: readonly Float32Array[];
  readonly lora: LoraConfig;
  /** The hub name or path that PEFT loads the base from. */
  readonly baseModelName: string | null;
  /** Commit of the base on its hub. @default null */
  readonly revision?: string | null;
  /** Digest of the base. @default null */
  readonly baseDigest?: string | null;
  /** Chat template that the adapter was trained with, if it is not the base's own. @default null */
  readonly chatTemplate?: string | null;
}

/** Returns whether a path is a folder with a PEFT adapter. */
export function isPeftFolder(path: string): Promise<boolean> {
  return stat(join(path, ADAPTER_CONFIG_FILE)).then(
    () => true,
    () => false,
  );
}

/**
 * Writes a PEFT adapter folder: `adapter_model.safetensors`, `adapter_config.json`, and `chat_template.jinja`
 * if the adapter has a chat template. Each file is written durably, and appears complete or not at all.
 * @throws SwarmError STORE_FULL, WRITE_FAILED
 */
export async function writePeftFolder(dir: string, adapter: AdapterToWrite): Promise<void> {
  const { layout, tensors, lora, baseModelName, revision = null, baseDigest = null } = adapter;
  const { chatTemplate = null } = adapter;
  await mkdir(dir, { recursive: true });
  const weights = encodeAdapter(layout, tensors, baseDigest);
  const config = encodePeftConfig({ lora, baseModelName, revision }, layout);
  await writeDurably(join(dir, ADAPTER_WEIGHTS_FILE), weights);
  await writeDurably(join(dir, ADAPTER_CONFIG_FILE), config);
  const template = join(dir, CHAT_TEMPLATE_FILE);
  if (chatTemplate === null) await rm(template, { force: true });
  else await writeDurably(template, chatTemplate);
}

/**
 * Reads an adapter folder written by this program or by PEFT, and checks it against the base.
 * @throws SwarmError MODEL_FILE_MISSING, MODEL_JSON, ADAPTER_CONFIG, ADAPTER_UNSUPPORTED, LORA_*, and the errors of
 *   decodeAdapter
 */
export async function readPeftFolder(dir: string, model: BaseModel): Promise<Adapter> {
  const json = await readJsonObject(join(dir, ADAPTER_CONFIG_FILE), MAX_CONFIG_BYTES);
  const { config, layout } = fitConfig(json, model, dir);
  const path = join(dir, ADAPTER_WEIGHTS_FILE);
  const read = await readHeader(path, MAX_ADAPTER_HEADER_BYTES);
  const header = await withoutBaseCopies(path, read, layout, model);
  const entries = matchEntries(header, layout, path, nextBase(config));
  const tensors: Float32Array[] = [];
  for (const [i, { name }] of layout.entries()) {
    const values = await readTensor(path, entries[i]!);
    checkFinite(values, name, path);
    tensors.push(values);
  }
  return { ...config, layout, tensors, baseDigest: header.metadata[BASE_DIGEST_KEY] ?? null };
}

/**
 * Parses the settings of an adapter, and lays out its tensors for this base.
 * @throws SwarmError LORA_TARGETS if the base lacks modules that the adapter changes; the errors of `parsePeftConfig`
 */
function fitConfig(
  json: Record<string, unknown>,
  model: BaseModel,
  dir: string,
): { config: PeftConfig; layout: AdapterLayout } {
  try {
    const config = parsePeftConfig(json, model);
    return { config, layout: adapterLayout(model, config.lora) };
  } catch (error) {
    if (!isSwarmError(error, 'LORA_TARGETS')) throw error;
    const message = `the adapter in ${dir} does not fit the base in ${model.dir}: ${error.message}`;
    const { base_model_name_or_path: name } = json;
    const next = nextBase({ baseModelName: typeof name === 'string' ? name : null, revision: null });
    throw error.with({ message, next });
  }
}
