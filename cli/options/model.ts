import type { Command } from 'commander';
import { resolveCache } from '../../common/files/user-folders.ts';
import type { EngineName, ModelBundle } from '../../index.ts';
import { ADAPTER_HELP, adapterFolder } from '../adapter/folder.ts';
import type { Context } from '../context.ts';
import { BASE_MODEL, baseFolder } from '../models/base-model.ts';
import { ProgressLine, printNote } from '../print.ts';
import { ENGINE_THREADS, integer } from './common.ts';
import { engineOption, givenCompute, measuringLine } from './engine.ts';

/** Flags of commands that use a model, with or without an adapter. */
export interface ModelFlags {
  model: string;
  adapter?: string;
  engine?: string;
  threads?: number;
}

export function addModelOptions(command: Command): Command {
  return command
    .requiredOption('--model <model>', `base model: ${BASE_MODEL}`)
    .option('--adapter <adapter>', `${ADAPTER_HELP} (default: none, the base alone)`)
    .addOption(engineOption())
    .option('--threads <n>', ENGINE_THREADS, integer(1, 1024));
}

/** Opens model, tokenizer and adapter, with progress and warnings on stderr. @throws SwarmError as `openModel` */
export async function openModelBundle(
  context: Pick<Context, 'cwd' | 'environment' | 'signal' | 'clock' | 'stderr'>,
  flags: ModelFlags,
): Promise<ModelBundle> {
  const { openModel } = await import('../../index.ts');
  const { signal, cwd, environment, clock } = context;
  const adapter = flags.adapter === undefined ? null : await adapterFolder(context, flags.adapter);
  const progress = new ProgressLine(context);
  const options = {
    base: flags.model,
    adapter: adapter?.folder,
    adapterBase: adapter?.baseDigest ?? undefined,
    compute: givenCompute(flags, environment),
    cacheDir: resolveCache(environment, cwd),
    now: clock.now(),
    signal,
    onProbe: (engine: EngineName) => progress.update(measuringLine(engine)),
    onWarning: (text: string) => printNote(context, text),
  };
  try {
    return await openModel(options, { findBase: (base) => baseFolder(context, base) });
  } finally {
    progress.clear();
  }
}
