import { join } from 'node:path';
import { withAbortReason } from '../../common/abort-reason.ts';
import { makeFolder } from '../../common/files/folders.ts';
import { resolveCache } from '../../common/files/user-folders.ts';
import { adapterTemplate } from '../adapter/adapter-template.ts';
import { baseWarning, checkBase } from '../adapter/check-base.ts';
import { adapterLayout } from '../adapter/layout.ts';
import type { LoraConfig } from '../adapter/lora-config.ts';
import { readPeftFolder } from '../adapter/peft.ts';
import { loadTokenizer, type TextTokenizer } from '../data/tokenizer.ts';
import { createEngine, type Engine, type EngineName, type WeightFile } from '../engines/engine.ts';
import { undeletedLine } from '../models/base/base-cleanup.ts';
import { type BaseModel, openBase } from '../models/base/base-model.ts';
import { findBase } from '../models/base/find-base.ts';
import type { FetchProgress } from '../models/hub/fetch-model.ts';
import { damagedLine, prepareWeights } from '../models/weights/prepare-weights.ts';
import { type ComputeInput, parseOneDevice } from '../train/compute.ts';
import { resolveDevices } from '../train/devices/choose.ts';

/**
 * A base model with its tokenizer and weights, an engine, and optionally an adapter, opened together. The same model
 * without its adapter is `{ ...model, adapter: null }`.
 */
export interface ModelBundle {
  /** @internal */
  readonly model: BaseModel;
  /** @internal */
  readonly engine: Engine;
  /** The base's weights, as `prepareWeights` returns them. @internal */
  readonly weights: WeightFile;
  /** @internal */
  readonly tokenizer: TextTokenizer;
  /** The adapter; null for the base alone. */
  readonly adapter: OpenAdapter | null;
}

/** An adapter that was read from its folder. */
export interface OpenAdapter {
  readonly lora: LoraConfig;
  /** Tensors in layout order. */
  readonly tensors: readonly Float32Array[];
  /** Path of the chat template in the adapter's folder. @default the adapter has no template */
  readonly template?: string | null;
}

/** Base, adapter and engine of a model. */
export interface OpenModelOptions {
  /** Folder of a base in Hugging Face layout, or `ORG/NAME[@REVISION]` on the hub. */
  readonly base: string;
  /** Folder of a PEFT adapter. @default the base alone */
  readonly adapter?: string | undefined;
  /**
   * Digest of the base that the adapter was made for. A registry knows it even if another program wrote the adapter.
   * @default the digest in the adapter's file, if it has one
   */
  readonly adapterBase?: string | undefined;
  /** Settings for computing, on one device. @default the fastest engine that runs, with all hardware threads */
  readonly compute?: ComputeInput;
  /** Folder of converted weights and engine choices. @default SWARM_CACHE, else lora-swarm in the user's cache folder */
  readonly cacheDir?: string;
  /**
   * The current time, in milliseconds since 1970. Stored choices of an engine expire after a week. @default
   * now
   */
  readonly now?: number;
  /** @default never aborts */
  readonly signal?: AbortSignal;
  /** Called before an engine is measured for `auto`. A measurement takes about 2 seconds. */
  readonly onProbe?: (engine: EngineName) => void;
  /** Called while a base on the hub is downloaded, or a GGUF file is converted. */
  readonly onDownload?: (progress: FetchProgress) => void;
  /** Called with a warning, in one sentence, if the adapter may have been made for another base. */
  readonly onWarning?: (text: string) => void;
}

/** Dependencies of `openModel`. All have defaults. */
export interface OpenModelDeps {
  /** Returns the folder of a base. @default fetches a base on the hub, as {@link findBase} does */
  readonly findBase?: (base: string) => Promise<string>;
}

/**
 * Opens a base, its tokenizer and an adapter, checks them against each other, and converts the weights for the engine. The
 * first call for a base writes its weights to the cache.
 *
 * @throws SwarmError MODEL_*, HUB_*, ADAPTER_*, LORA_*, ENGINE_*, BASE_BITS, PRECISION; USAGE for several devices; the
 * signal's reason
 */
export function openModel(options: OpenModelOptions, deps: OpenModelDeps = {}): Promise<ModelBundle> {
  return withAbortReason(options.signal, () => open(options, deps));
}

async function open(options: OpenModelOptions, deps: OpenModelDeps): Promise<ModelBundle> {
  const { cacheDir = resolveCache(), now = Date.now(), signal = new AbortController().signal } = options;
  const asked = parseOneDevice(options.compute ?? {});
  const find =
    deps.findBase ?? ((base: string) => findBase({ base, cacheDir, signal, onProgress: options.onDownload }));
  const model = await openBase(await find(options.base));
  const read = options.adapter === undefined ? null : await readPeftFolder(options.adapter, model);
  const adapter = read && {
    ...read,
    baseDigest: options.adapterBase ?? read.baseDigest,
    template: await adapterTemplate(options.adapter!),
  };
  const recordDir = join(cacheDir, 'engines');
  const onProbe = options.onProbe ?? (() => {});
  const { compute } = await resolveDevices(asked, { model, recordDir, now, signal, onProbe });
  await makeFolder(cacheDir, { next: 'set SWARM_CACHE to a folder that you may write to' });
  if (adapter !== null) {
    await checkBase(model, adapter, { signal, cacheDir });
    const warning = baseWarning(model, adapter);
    if (warning !== null) options.onWarning?.(warning);
  }
  const [{ engine, device }] = compute.devices;
  const { threads, baseBits: bits } = compute;
  return {
    model,
    tokenizer: await loadTokenizer(model.dir),
    engine: await createEngine(engine, { threads, ...(device !== undefined && { device }) }),
    weights: await prepareWeights(model, cacheDir, {
      signal,
      bits,
      onUndeleted: (undeleted) => options.onWarning?.(undeletedLine(undeleted)),
      onDamaged: (path) => options.onWarning?.(damagedLine(path)),
    }),
    adapter,
  };
}

/** Returns the adapter's tensors by the names of the graph's inputs. */
export function adapterFeeds({ model, adapter }: ModelBundle): Map<string, Float32Array> {
  if (adapter === null) return new Map();
  const layout = adapterLayout(model, adapter.lora);
  return new Map(layout.map(({ name }, i) => [name, adapter.tensors[i]!]));
}
