/** Functions shared by all commands that write merged models or GGUF files. */
import { Option } from 'commander';
import { resolveCache } from '../../common/files/user-folders.ts';
import { formatBytes } from '../../common/text.ts';
import type { ExportGgufOptions } from '../../index.ts';
import { GGUF_TYPES } from '../../lora/models/gguf/format.ts';
import type { Context } from '../context.ts';
import { ProgressLine, printNote } from '../print.ts';

/** @param merge name of the option that merges the adapter into its base */
export function ggufOption(merge: string): Option {
  return new Option(
    '--gguf <type>',
    `write a GGUF file for llama.cpp and Ollama, with matrices of this type. With --${merge}, the file contains the whole model, and a Modelfile is written too. Without --${merge}, the file contains only the adapter, and the type must be f32 or f16`,
  ).choices(GGUF_TYPES);
}

/** Calls a function that writes a merged model or a GGUF file, with progress and notes on stderr. */
export async function writingModel<T>(
  context: Context,
  write: (options: Pick<ExportGgufOptions, 'cacheDir' | 'signal' | 'onProgress' | 'onWarning'>) => Promise<T>,
): Promise<T> {
  const { environment, cwd, signal } = context;
  const progress = new ProgressLine(context);
  const onProgress = (done: number, total: number): void =>
    progress.update(`wrote ${formatBytes(done)} of ${formatBytes(total)}`);
  const onWarning = (text: string): void => {
    progress.clear();
    printNote(context, text);
  };
  const cacheDir = resolveCache(environment, cwd);
  return write({ cacheDir, signal, onProgress, onWarning }).finally(() => progress.clear());
}
