import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { type AbortOptions, withAbortReason } from '../../common/abort-reason.ts';
import { ADAPTER_WEIGHTS_FILE } from '../../lora/adapter/peft.ts';
import type { Checkpoint } from '../../protocol/messages.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import { coordinatorError } from '../errors.ts';
import { SIGNED_FILE } from '../record/checkpoint-folders.ts';

/** A checkpoint whose signature and weights have been verified. */
export interface VerifiedCheckpoint {
  /** PEFT folder of the checkpoint. */
  readonly path: string;
  /** Digest of the signed checkpoint, which is its identity. */
  readonly digest: string;
  /** Peer id of the coordinator that signed the checkpoint. */
  readonly author: string;
  readonly checkpoint: Checkpoint;
  /** Whether the weights are still in the folder. A coordinator deletes the weights of old checkpoints. */
  readonly kept: boolean;
}

/**
 * Reads the checkpoints of a job from a folder of PEFT folders, such as a coordinator's `<home>/checkpoints/<job
 * name>`. Verifies the signature of each checkpoint, and the digest of its weights if they have not been deleted. Also
 * verifies that all checkpoints have the same job and author, and that each checkpoint after the first names the
 * previous checkpoint as its parent.
 *
 * @returns the checkpoints, oldest first
 * @throws SwarmError SIGNATURE_INVALID, MESSAGE_*, CHECKPOINT_DAMAGED; a system error if the folder cannot be read; the
 *   signal's reason
 */
export function readCheckpoints(
  folder: string,
  { signal }: AbortOptions = {},
): Promise<VerifiedCheckpoint[]> {
  return withAbortReason(signal, () => read(folder, signal));
}

async function read(folder: string, signal: AbortSignal | undefined): Promise<VerifiedCheckpoint[]> {
  const found: VerifiedCheckpoint[] = [];
  for (const name of (await readdir(folder)).filter((name) => /^\d+$/.test(name))) {
    const path = join(folder, name);
    const { author, message, digest } = verifyMessage('checkpoint', await readFile(join(path, SIGNED_FILE)));
    const weights = join(path, ADAPTER_WEIGHTS_FILE);
    const kept = existsSync(weights);
    if (kept && (await digestOf(weights, signal)) !== message.adapter.digest) {
      throw damaged(path, 'the digest of its weights differs from the one in the signed checkpoint');
    }
    found.push({ path, digest, author, checkpoint: message, kept });
  }
  found.sort((a, b) => a.checkpoint.round - b.checkpoint.round);
  for (const [i, { path, author, checkpoint }] of found.entries()) {
    const previous = found[i - 1];
    if (previous === undefined) continue;
    if (checkpoint.parent !== previous.digest)
      throw damaged(path, 'its parent is not the previous checkpoint');
    if (checkpoint.job !== previous.checkpoint.job)
      throw damaged(path, 'it belongs to a different job from the previous checkpoint');
    if (author !== previous.author)
      throw damaged(path, 'it was signed by a different coordinator from the previous checkpoint');
  }
  return found;
}

async function digestOf(file: string, signal: AbortSignal | undefined): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash, { signal });
  return hash.digest('hex');
}

function damaged(path: string, reason: string): Error {
  return coordinatorError('CHECKPOINT_DAMAGED', `${path}: ${reason}`, { path, reason });
}
