/** Stores messages that the coordinator of a job has signed. A coordinator restored from an old backup asks for them. */
import type { Head } from '../../protocol/messages.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import { nodeError } from '../errors.ts';
import type { ContactPort } from './port.ts';
import { request } from './requests.ts';

/**
 * Mean number of nodes that keep each checkpoint. All nodes keep a checkpoint that contains at most this many
 * updates.
 */
const KEEPERS = 16;

/**
 * Maximum number of missed checkpoints that a node asks for at each head. With this limit, its requests stay below its quota
 * at the coordinator, even if a round takes 2 s.
 */
const MISSED_AT_ONCE = 3;

/**
 * Fetches and keeps the signed checkpoint of a head, and then earlier checkpoints that this node has missed, for example
 * because its connection was lost. In a large swarm, a random choice decides whether this node keeps the checkpoint, so that
 * about KEEPERS nodes have it. The other nodes then have those that this node has missed.
 * @throws SwarmError CHECKPOINT_UNTRUSTED, and the errors of the request
 */
export async function keepCheckpoint(context: ContactPort, head: Head, signal: AbortSignal): Promise<void> {
  const { deps, job } = context;
  const { kept } = deps.store;
  const { digest, ordinal } = head.checkpoint;
  if (kept.hasCheckpoint(job, digest)) return;
  const updates = head.included.length;
  if (deps.random() * updates > KEEPERS) return;
  if (!(await fetchAndKeep(context, { digest, ordinal }, signal)) || updates > KEEPERS) return;
  let before = Number.MAX_SAFE_INTEGER;
  for (let asked = 0; asked < MISSED_AT_ONCE; asked++) {
    const above = kept.aboveGap(job, before);
    if (above === null) return;
    const { parent } = verifyMessage('checkpoint', above.envelope).message;
    const missed = { digest: parent!, ordinal: above.ordinal - 1 };
    // If the coordinator lacks the checkpoint too, look for an older gap.
    if (!(await fetchAndKeep(context, missed, signal))) before = above.round;
  }
}

/** Fetches and keeps a signed checkpoint. Returns false if the coordinator does not have it. */
async function fetchAndKeep(
  { deps, coordinator, job }: ContactPort,
  { digest, ordinal }: { digest: string; ordinal: number },
  signal: AbortSignal,
): Promise<boolean> {
  const { checkpoint } = await request(deps, coordinator, 'checkpoint', { job, digest }, signal);
  if (checkpoint === null) return false;
  const found = verifyMessage('checkpoint', checkpoint);
  if (found.author !== coordinator || found.digest !== digest || found.message.job !== job) {
    throw nodeError(
      'CHECKPOINT_UNTRUSTED',
      `asked for checkpoint ${digest} of ${coordinator}, but the answer is ${found.digest}, signed by ${found.author}`,
      { job, digest, coordinator },
    );
  }
  deps.store.kept.keepCheckpoint(job, { round: found.message.round, ordinal, digest, envelope: checkpoint });
  return true;
}
