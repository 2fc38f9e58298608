import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { ModelBundle } from '../lora/evaluate/model-bundle.ts';
import { BASE_MODEL, baseFolder } from './base-model.ts';
import type { Context } from './context.ts';
import { engineOption, oneDeviceCompute, resolveEngine } from './engine.ts';
import { cacheFolder } from './folders.ts';
import { checkAdapter } from './merged-model.ts';
import { ENGINE_THREADS, integer } from './options.ts';

/** Flags of commands that use a model with or without an adapter. */
export interface ModelFlags {
  model: string;
  adapter?: string;
  engine?: string;
  threads?: number;
}

export function addModelOptions(command: Command): Command {
  return command
    .requiredOption('--model <model>', `base model: ${BASE_MODEL}`)
    .option('--adapter <dir>', 'PEFT adapter folder')
    .addOption(engineOption())
    .option('--threads <n>', ENGINE_THREADS, integer(1, 1024));
}

/** Opens a model with its tokenizer and adapter, and checks that they belong together. */
export async function openModelBundle(
  context: Pick<Context, 'cwd' | 'environment' | 'signal' | 'clock' | 'stderr'>,
  flags: ModelFlags,
): Promise<ModelBundle> {
  const [{ createEngine }, { openBase }, { prepareWeights }, { loadTokenizer }, { readPeftFolder }] =
    await Promise.all([
      import('../lora/engines/engine.ts'),
      import('../lora/models/base-model.ts'),
      import('../lora/models/prepare-weights.ts'),
      import('../lora/data/tokenizer.ts'),
      import('../lora/adapter/peft.ts'),
    ]);
  const { signal, cwd, environment } = context;
  const asked = oneDeviceCompute(flags, environment);
  const dir = await baseFolder(context, flags.model);
  const model = await openBase(dir);
  const adapter =
    flags.adapter === undefined ? null : await readPeftFolder(resolve(cwd, flags.adapter), model);
  const { compute } = await resolveEngine(context, asked, model);
  const cacheDir = await cacheFolder(context);
  if (adapter !== null) await checkAdapter(context, { model, adapter, cacheDir });
  return {
    model,
    tokenizer: await loadTokenizer(dir),
    engine: await createEngine(compute.devices[0].engine, compute),
    weights: await prepareWeights(model, cacheDir, { signal }),
    adapter,
  };
}
