import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { resolveCache } from '../common/user-folders.ts';
import type { Context } from './context.ts';

/** Whether a path is a PEFT adapter folder. */
export async function isAdapterFolder(path: string): Promise<boolean> {
  const { ADAPTER_CONFIG_FILE } = await import('../lora/adapter/peft.ts');
  return stat(join(path, ADAPTER_CONFIG_FILE)).then(
    () => true,
    () => false,
  );
}

/** Writes a merged model, with warnings on stderr. @throws SwarmError as `mergeModel` */
export async function writeMergedModel(
  { signal, stderr, environment, cwd }: Pick<Context, 'signal' | 'stderr' | 'environment' | 'cwd'>,
  { adapter, model: base, output }: { adapter: string; model: string; output: string },
): Promise<void> {
  const { mergeModel } = await import('../index.ts');
  const onWarning = (text: string): void => stderr.write(`swarm: ${text}\n`);
  await mergeModel({ base, adapter, output, cacheDir: resolveCache(environment, cwd), signal, onWarning });
}
