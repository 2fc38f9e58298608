import { withAbortReason } from '../../common/abort-reason.ts';
import { makeFolder } from '../../common/files/folders.ts';
import { resolveCache } from '../../common/files/user-folders.ts';
import { openBase } from '../models/base/base-model.ts';
import { findBase } from '../models/base/find-base.ts';
import type { FetchProgress } from '../models/hub/fetch-model.ts';
import { adapterTemplate } from './adapter-template.ts';
import { baseWarning } from './check-base.ts';
import { mergeIntoBase } from './merge-into-base.ts';
import { readPeftFolder } from './peft.ts';

/** Base, adapter and output of a merged model. */
export interface MergeModelOptions {
  /** Folder of a base in Hugging Face layout, a GGUF file, or `ORG/NAME[@REVISION]` on the hub. */
  readonly base: string;
  /** Folder of a PEFT adapter. */
  readonly adapter: string;
  /** Folder to write the merged model to. The folder must be empty, or must not exist yet, unless `force` is set. */
  readonly output: string;
  /** Replaces a model in the output folder. Other files in the folder stay. @default false */
  readonly force?: boolean;
  /** Folder where digests of bases are kept. @default SWARM_CACHE, else lora-swarm in the user's cache folder */
  readonly cacheDir?: string;
  /** Aborts the merge. @default never aborts */
  readonly signal?: AbortSignal;
  /** Called with the bytes of weights that have been written, and with their total number. */
  readonly onProgress?: (done: number, total: number) => void;
  /** Called while a base on the hub is downloaded, or a GGUF file is converted. */
  readonly onDownload?: (progress: FetchProgress) => void;
  /** Called with a sentence when the adapter may have been made for another base. */
  readonly onWarning?: (text: string) => void;
}

/**
 * Writes a merged model, which is the base with the adapter added to its weights, as an ordinary Hugging Face
 * folder. If the adapter has a chat template, this template replaces the chat template of the base.
 *
 * @throws SwarmError MODEL_*, HUB_*, ADAPTER_*, LORA_*, OUTPUT_EXISTS; the signal's reason
 */
export function mergeModel(options: MergeModelOptions): Promise<void> {
  return withAbortReason(options.signal, () => merge(options));
}

async function merge({ adapter: adapterDir, output, ...options }: MergeModelOptions): Promise<void> {
  const { cacheDir = resolveCache(), signal = new AbortController().signal, onProgress, onWarning } = options;
  const { force = false } = options;
  const model = await openBase(
    await findBase({ base: options.base, cacheDir, signal, onProgress: options.onDownload }),
  );
  const adapter = await readPeftFolder(adapterDir, model);
  await makeFolder(cacheDir, { next: 'set SWARM_CACHE to a folder that you may write to' });
  const warning = baseWarning(model, adapter);
  if (warning !== null) onWarning?.(warning);
  await mergeIntoBase(model, adapter, output, {
    signal,
    cacheDir,
    force,
    onProgress,
    template: await adapterTemplate(adapterDir),
  });
}
