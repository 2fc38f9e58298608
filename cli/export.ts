import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { copyFile, mkdir, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { CheckpointView } from '../coordinator/api/types.ts';
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE, type Adapter } from '../lora/adapter/peft.ts';
import type { BaseModel } from '../lora/models/base-model.ts';
import type { Context } from './context.ts';
import { cliError } from './error-codes.ts';
import { cacheFolder } from './folders.ts';

/**
 * Copies a checkpoint's folder (PEFT files and the signed manifest beside them) and checks that its weights are those
 * of the checkpoint. @throws SwarmError CHECKPOINT_DAMAGED, CHECKPOINT_PRUNED
 */
export async function copyCheckpoint(
  { round, path, kept, checkpoint }: CheckpointView,
  output: string,
): Promise<void> {
  requireKept({ round, kept });
  await mkdir(output, { recursive: true });
  for (const name of await readdir(path)) await copyFile(join(path, name), join(output, name));
  const hash = createHash('sha256');
  await pipeline(createReadStream(join(output, ADAPTER_WEIGHTS_FILE)), hash);
  const found = hash.digest('hex');
  if (found !== checkpoint.adapter.digest) {
    throw cliError(
      'CHECKPOINT_DAMAGED',
      `the weights in ${path} are not those of the checkpoint (${found} instead of ${checkpoint.adapter.digest})`,
      { path, found, expected: checkpoint.adapter.digest },
      { next: 'pull it from the swarm: swarm checkpoint pull INVITE DIR' },
    );
  }
}

/** @throws SwarmError CHECKPOINT_PRUNED when the coordinator has let the checkpoint's weights go */
export function requireKept({ round, kept }: Pick<CheckpointView, 'round' | 'kept'>): void {
  if (kept) return;
  throw cliError(
    'CHECKPOINT_PRUNED',
    `the weights of round ${round} are no longer kept, only its signed record; "swarm checkpoint list" shows which are`,
    { round },
    { next: 'a coordinator started with --keep-checkpoints 0 keeps all from then on' },
  );
}

/** Whether a path is a PEFT adapter folder. */
export function isAdapterFolder(path: string): Promise<boolean> {
  return stat(join(path, ADAPTER_CONFIG_FILE)).then(
    () => true,
    () => false,
  );
}

/** Writes the base with the adapter merged into it: a whole Hugging Face model. */
export async function mergeInto(
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
 * Whether an adapter is for this base. Where it only says by name what it is for, and the names differ, a line on stderr.
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
