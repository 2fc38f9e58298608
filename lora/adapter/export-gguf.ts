import { basename, join, resolve } from 'node:path';
import { withAbortReason } from '../../common/abort-reason.ts';
import { writeDurably } from '../../common/files/durable.ts';
import { claimOutput, makeFolder } from '../../common/files/folders.ts';
import { resolveCache } from '../../common/files/user-folders.ts';
import { type BaseModel, openBase } from '../models/base/base-model.ts';
import { findBase } from '../models/base/find-base.ts';
import { modelError } from '../models/errors.ts';
import type { WrittenType } from '../models/gguf/blocks.ts';
import type { GgufType } from '../models/gguf/format.ts';
import type { FetchProgress } from '../models/hub/fetch-model.ts';
import { hubOrigin } from '../models/hub/reference.ts';
import { adapterTemplate } from './adapter-template.ts';
import { baseWarning, checkBase } from './check-base.ts';
import { writeAdapterGguf, writeModelGguf } from './gguf-files.ts';
import { readPeftFolder } from './peft.ts';

/** Name of the file that holds a base or a merged model. */
const GGUF_MODEL_FILE = 'model.gguf';
/** Name of the file that holds an adapter alone. */
const GGUF_ADAPTER_FILE = 'adapter.gguf';
/** Ollama's description of a model. `ollama create NAME -f Modelfile` reads it. */
const MODELFILE = 'Modelfile';

/** Base, adapter and output of an export to GGUF. */
export interface ExportGgufOptions {
  /** A model folder in Hugging Face layout, a GGUF file, or `ORG/NAME[@REVISION]` on the hub. */
  readonly base: string;
  /** Folder of a PEFT adapter. @default none, so that the base alone is written */
  readonly adapter?: string;
  /** Folder to write to. */
  readonly output: string;
  /** Element type of matrices. An adapter alone can be f32 or f16. @default f16 */
  readonly type?: GgufType;
  /** Whether the adapter is added to the base's weights. If false, the file holds the adapter alone. @default true */
  readonly merge?: boolean;
  /** Name of the model in the file. @default the name of the base */
  readonly name?: string;
  /** Whether files may be written into a folder that is not empty. @default false */
  readonly force?: boolean;
  /** Folder where digests of bases are kept. @default SWARM_CACHE, else lora-swarm in the user's cache folder */
  readonly cacheDir?: string;
  /** Aborts the export. @default never aborts */
  readonly signal?: AbortSignal;
  /** Called with the bytes of tensor data that have been written, and with the total number of bytes. */
  readonly onProgress?: (done: number, total: number) => void;
  /** Called while a base on the hub is downloaded, or a GGUF file is converted. */
  readonly onDownload?: (progress: FetchProgress) => void;
  /**
   * Called with a warning for each known case in which llama.cpp's tokenizer gives other tokens than the model's own.
   * Also called if the adapter may have been made for another base.
   */
  readonly onWarning?: (text: string) => void;
}

/** The files of an export. */
export interface ExportedGguf {
  /** Path of the GGUF file. */
  readonly file: string;
  /** Size of the GGUF file in bytes. */
  readonly bytes: number;
  /** Path of the Modelfile; null for an adapter alone. */
  readonly modelfile: string | null;
}

/**
 * Writes a model, or an adapter alone, as a GGUF file for llama.cpp, Ollama and related programs. Beside a model it
 * writes a Modelfile for Ollama.
 *
 * @throws SwarmError USAGE; MODEL_*, HUB_*, ADAPTER_*, LORA_*; OUTPUT_EXISTS; GGUF_UNSUPPORTED, GGUF_ADAPTER,
 *   GGUF_RANGE; the signal's reason
 */
export function exportGguf(options: ExportGgufOptions): Promise<ExportedGguf> {
  return withAbortReason(options.signal, () => run(options));
}

async function run(options: ExportGgufOptions): Promise<ExportedGguf> {
  const { cacheDir = resolveCache(), signal, onProgress, onWarning = () => {}, force = false } = options;
  const { merge = true, type = 'f16' } = options;
  const output = resolve(options.output);
  if (!merge && options.adapter === undefined)
    throw modelError(
      'GGUF_ADAPTER',
      'an export without merging writes an adapter alone, but no adapter is given',
      {},
      { kind: 'usage', next: 'name an adapter' },
    );
  if (!merge && type !== 'f32' && type !== 'f16')
    throw modelError(
      'GGUF_ADAPTER',
      `an adapter alone cannot be written as ${type}`,
      { type },
      {
        kind: 'usage',
        next: 'choose f32 or f16',
      },
    );
  const model = await openBase(
    await findBase({ base: options.base, cacheDir, signal, onProgress: options.onDownload }),
  );
  const adapter = options.adapter === undefined ? null : await readPeftFolder(options.adapter, model);
  await makeFolder(cacheDir, { next: 'set SWARM_CACHE to a folder that you may write to' });
  if (adapter !== null) {
    await checkBase(model, adapter, { signal, cacheDir });
    const warning = baseWarning(model, adapter);
    if (warning !== null) onWarning(warning);
  }
  await claimOutput(output, { force });
  const name = options.name ?? baseName(model);
  const written = type.toUpperCase() as WrittenType;
  const details = { name, type: written, signal, onProgress, onWarning };
  if (!merge) {
    const file = join(output, GGUF_ADAPTER_FILE);
    const bytes = await writeAdapterGguf(file, model, adapter!, {
      ...details,
      type: type === 'f32' ? 'F32' : 'F16',
    });
    return { file, bytes, modelfile: null };
  }
  const file = join(output, GGUF_MODEL_FILE);
  const template = options.adapter === undefined ? null : await adapterTemplate(options.adapter);
  const bytes = await writeModelGguf(file, model, adapter, { ...details, template });
  const modelfile = join(output, MODELFILE);
  await writeDurably(modelfile, `FROM ./${GGUF_MODEL_FILE}\n`);
  return { file, bytes, modelfile };
}

function baseName({ dir }: BaseModel): string {
  return hubOrigin(dir)?.name ?? basename(dir);
}
