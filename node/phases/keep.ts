/** Stores messages that the coordinator of a job has signed. A coordinator restored from an old backup asks for them. */
import type { Head } from '../../protocol/messages.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import { request } from '../contact/requests.ts';
import type { PhaseContext } from '../context.ts';
import { nodeError } from '../errors.ts';

/**
 * Mean number of nodes that keep each checkpoint. All nodes keep a checkpoint that contains at most this many
 * updates.
 */
const KEEPERS = 16;

/**
 * Fetches and keeps the signed checkpoint of a head. In a large swarm, a random choice decides whether this
 * node keeps the checkpoint, so that about KEEPERS nodes have it.
 * @throws SwarmError CHECKPOINT_UNTRUSTED, and the errors of the request
 */
export async function keepCheckpoint(context: PhaseContext, head: Head, signal: AbortSignal): Promise<void> {
  const { deps, coordinator, job } = context;
  const { kept } = deps.store;
  const { digest, ordinal } = head.checkpoint;
  if (kept.hasCheckpoint(job, digest)) return;
  if (deps.random() * head.included.length > KEEPERS) return;
  const { checkpoint } = await request(deps, coordinator, 'checkpoint', { job, digest }, signal);
  if (checkpoint === null) return;
  const found = verifyMessage('checkpoint', checkpoint);
  if (found.author !== coordinator || found.digest !== digest || found.message.job !== job) {
    throw nodeError(
      'CHECKPOINT_UNTRUSTED',
      `asked for checkpoint ${digest} of ${coordinator}, but the answer is ${found.digest}, signed by ${found.author}`,
      { job, digest, coordinator },
    );
  }
  kept.keepCheckpoint(job, { round: found.message.round, ordinal, digest, envelope: checkpoint });
}
