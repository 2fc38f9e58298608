import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { copyBytes } from '../../common/files/file-system.ts';
import { ADAPTER_WEIGHTS_FILE } from '../../lora/adapter/peft.ts';
import type { CheckpointView } from '../../protocol/api/coordinator.ts';
import { coordinatorError } from '../errors.ts';
import { requireKept } from '../require-kept.ts';

/**
 * Copies a checkpoint's folder (PEFT files and the signed checkpoint) and checks the digest of its weights.
 * @param output folder to copy into; created if it does not exist
 * @throws SwarmError CHECKPOINT_DAMAGED, CHECKPOINT_PRUNED
 */
export async function copyCheckpoint(
  { round, path, kept, checkpoint }: Pick<CheckpointView, 'round' | 'path' | 'kept' | 'checkpoint'>,
  output: string,
): Promise<void> {
  requireKept({ round, kept });
  await mkdir(output, { recursive: true });
  for (const name of await readdir(path)) await copyBytes(join(path, name), join(output, name));
  const hash = createHash('sha256');
  await pipeline(createReadStream(join(output, ADAPTER_WEIGHTS_FILE)), hash);
  const found = hash.digest('hex');
  if (found !== checkpoint.adapter.digest) {
    throw coordinatorError(
      'CHECKPOINT_DAMAGED',
      `the weights in ${path} have the digest ${found} instead of ${checkpoint.adapter.digest}`,
      { path, found, expected: checkpoint.adapter.digest },
      {
        next: 'pull the checkpoint from the swarm: "lora-swarm checkpoint pull - DIR", and paste the invite',
      },
    );
  }
}
