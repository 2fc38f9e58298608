import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Adapter } from '../lora/adapter/peft.ts';
import type { BaseModel } from '../lora/models/base-model.ts';
import type { Context } from './context.ts';
import { cacheFolder } from './folders.ts';

/** Whether a path is a PEFT adapter folder. */
export async function isAdapterFolder(path: string): Promise<boolean> {
  const { ADAPTER_CONFIG_FILE } = await import('../lora/adapter/peft.ts');
  return stat(join(path, ADAPTER_CONFIG_FILE)).then(
    () => true,
    () => false,
  );
}

/** Writes a merged model: the base with the adapter folded into its weights. */
export async function writeMergedModel(
  context: Pick<Context, 'signal' | 'stderr' | 'environment' | 'cwd'>,
  { adapter, model, output }: { adapter: string; model: string; output: string },
): Promise<void> {
  const [{ openBase }, { readPeftFolder }, { mergeIntoBase }] = await Promise.all([
    import('../lora/models/base-model.ts'),
    import('../lora/adapter/peft.ts'),
    import('../lora/adapter/merge-into-base.ts'),
  ]);
  const base = await openBase(model);
  const read = await readPeftFolder(adapter, base);
  const cacheDir = await cacheFolder(context);
  await checkAdapter(context, { model: base, adapter: read, cacheDir });
  await mergeIntoBase(base, read, output, { signal: context.signal, cacheDir });
}

/**
 * Checks that an adapter belongs to this base. An adapter of another maker names its base without a digest: where the
 * names differ, that is a warning on stderr.
 * @throws SwarmError ADAPTER_BASE
 */
export async function checkAdapter(
  { signal, stderr }: Pick<Context, 'signal' | 'stderr'>,
  { model, adapter, cacheDir }: { model: BaseModel; adapter: Adapter; cacheDir: string },
): Promise<void> {
  const { baseWarning, checkBase } = await import('../lora/adapter/check-base.ts');
  await checkBase(model, adapter, { signal, cacheDir });
  const warning = baseWarning(model, adapter);
  if (warning !== null) stderr.write(`swarm: ${warning}\n`);
}
