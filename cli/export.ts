import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { copyFile, mkdir, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { CheckpointView } from '../coordinator/api-types.ts';
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE } from '../lora/adapter/peft.ts';
import { SwarmError } from '../protocol/errors.ts';
import type { Context } from './context.ts';

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
    throw new SwarmError(
      'CHECKPOINT_DAMAGED',
      `the weights in ${path} are not those of the checkpoint (${found} instead of ${checkpoint.adapter.digest})`,
      {
        path,
        found,
        expected: checkpoint.adapter.digest,
        next: 'pull it from the swarm: swarm checkpoint pull INVITE DIR',
      },
    );
  }
}

/** @throws SwarmError CHECKPOINT_PRUNED when the coordinator has let the checkpoint's weights go */
export function requireKept({ round, kept }: Pick<CheckpointView, 'round' | 'kept'>): void {
  if (kept) return;
  throw new SwarmError(
    'CHECKPOINT_PRUNED',
    `the weights of round ${round} are no longer kept, only its signed record; "swarm checkpoint list" shows which are`,
    { round, next: 'a coordinator started with --keep-checkpoints 0 keeps all from then on' },
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
  { signal }: Pick<Context, 'signal'>,
  { adapter, model, output }: { adapter: string; model: string; output: string },
): Promise<void> {
  const [{ openModel }, { readPeftFolder }, { mergeAdapter }] = await Promise.all([
    import('../lora/models/model.ts'),
    import('../lora/adapter/peft.ts'),
    import('../lora/adapter/merge.ts'),
  ]);
  const base = await openModel(model);
  await mergeAdapter(base, await readPeftFolder(adapter, base), output, { signal });
}
