import { encodeCbor } from '../../protocol/cbor.ts';
import type { Checkpoint } from '../../protocol/messages.ts';
import { signMessage, verifyMessage } from '../../protocol/signing.ts';
import type { BlobScope } from '../../storage/blob-collector.ts';
import type { MergeSource } from '../../verify/merge/merge-updates.ts';
import type { RunContext } from '../context.ts';
import { coordinatorError } from '../errors.ts';
import { meanLoss } from '../merge/comparison.ts';
import type { MergeCandidate, RollBack } from '../merge/merge-round.ts';

/** A checkpoint whose blobs and folder are on disk, but which is not in the database yet. */
export interface DurableCheckpoint {
  readonly digest: string;
  readonly checkpoint: Checkpoint;
  readonly envelope: Uint8Array;
  /** Digest of the blob with the part of the adapter that the published deltas left out; null if there is none. */
  readonly residual: string | null;
  /** Updates that the gate left out. */
  readonly leftOut: readonly MergeSource[];
  /** The restored checkpoint and the reason for the roll-back; null if the checkpoint is a merge. */
  readonly rollBack: Pick<RollBack, 'to' | 'reason'> | null;
}

/**
 * Writes the blobs, the signed checkpoint and the folder of a merge that passed the gate. A second call with the same
 * merge writes the same bytes.
 * @param scope protects the blobs until the database refers to them
 * @throws SwarmError STORE_FULL, WRITE_FAILED, ROUND_NOT_CLOSED
 */
export async function writeCheckpoint(
  candidate: MergeCandidate,
  scope: BlobScope,
  context: RunContext,
): Promise<DurableCheckpoint> {
  const { merged, leftOut } = candidate;
  const adapter = { digest: await scope.put(merged.adapter), size: merged.adapter.byteLength };
  const delta = { digest: await scope.put(merged.delta), size: merged.delta.byteLength };
  const residual = await scope.put(merged.residual);
  const checkpoint = describeCheckpoint(candidate, adapter, delta, context);
  const signed = await writeSigned(checkpoint, scope, context);
  return { ...signed, residual, leftOut, rollBack: null };
}

/**
 * Writes the checkpoint of a roll-back, with the adapter of an earlier checkpoint. The checkpoint has no delta, because
 * a quantised delta cannot give the exact bits of that adapter. Nodes fetch the whole adapter instead. The residual of
 * the deltas starts again at zero, because it belongs to the merges that are undone.
 * @param scope protects the blobs until the database refers to them
 * @throws SwarmError STORE_FULL, WRITE_FAILED, ROUND_NOT_CLOSED
 */
export async function writeRollBack(
  { round, parent, to, reason }: RollBack,
  scope: BlobScope,
  context: RunContext,
): Promise<DurableCheckpoint> {
  const { job, stored, manifest } = context;
  const { openedAt, closedAt } = closedRound(round, context);
  await scope.hold(to.adapter.digest);
  const checkpoint: Checkpoint = {
    job,
    term: stored.term,
    round,
    base: manifest.base.digest,
    parent: parent.digest,
    adapter: to.adapter,
    delta: null,
    contributors: [],
    metrics: {
      heldOutLoss: to.metrics.heldOutLoss,
      heldOutTokens: to.metrics.heldOutTokens,
      trainLoss: null,
      tokens: 0,
      seconds: Math.max(0, closedAt - openedAt) / 1000,
      outerRate: 0,
      updateBytes: 0,
      drift: null,
    },
    ...settingsOf(round, context),
    createdAt: closedAt,
  };
  const signed = await writeSigned(checkpoint, scope, context);
  return { ...signed, residual: null, leftOut: [], rollBack: { to, reason } };
}

/** Signs a checkpoint whose blobs have been written, and writes its body and its folder. */
async function writeSigned(
  checkpoint: Checkpoint,
  scope: BlobScope,
  { manifest, layout, deps }: RunContext,
): Promise<Pick<DurableCheckpoint, 'digest' | 'checkpoint' | 'envelope'>> {
  const envelope = signMessage('checkpoint', checkpoint, deps.network.signer);
  const { digest } = verifyMessage('checkpoint', envelope);
  // Store the checkpoint's body as a blob too. From a head, a peer can then fetch all earlier checkpoints, because each
  // body names its parent.
  await scope.put(encodeCbor(checkpoint));
  deps.failpoint('checkpoint-blobs');
  await deps.folders.write({ manifest, layout, digest, checkpoint, envelope });
  deps.failpoint('checkpoint-folder');
  return { digest, checkpoint, envelope };
}

/** Returns the times at which a closed round was opened and closed. @throws SwarmError ROUND_NOT_CLOSED */
function closedRound(round: number, { job, deps }: RunContext): { openedAt: number; closedAt: number } {
  const record = deps.store.rounds.newest(job, 1)[0];
  if (record?.round !== round || record.closedAt === null) {
    const message = `round ${round} is not the newest round of the job, or has not closed`;
    throw coordinatorError('ROUND_NOT_CLOSED', message, { job, round });
  }
  return { openedAt: record.openedAt, closedAt: record.closedAt };
}

/**
 * Returns the checkpoint of a merge. Uses only facts that were recorded when the round closed, so that a second call
 * returns the same checkpoint.
 */
function describeCheckpoint(
  { round, parent, merged, losses, rate }: MergeCandidate,
  adapter: { digest: string; size: number },
  delta: { digest: string; size: number },
  context: RunContext,
): Checkpoint {
  const { job, stored, manifest, deps } = context;
  const { openedAt, closedAt } = closedRound(round, context);
  const updates = deps.store.updates.selected(job, round);
  const used = merged.contributors.map(
    ({ peer, round: made }) => updates.find((update) => update.peer === peer && update.round === made)!,
  );
  return {
    job,
    term: stored.term,
    round,
    base: manifest.base.digest,
    parent: parent.digest,
    adapter,
    delta,
    contributors: merged.contributors.map(({ peer, digest, round: made, tokens, weight }) => ({
      peer,
      update: digest,
      round: made,
      tokens,
      weight,
    })),
    metrics: {
      heldOutLoss: meanLoss(losses),
      heldOutTokens: losses.reduce((sum, { tokens }) => sum + tokens, 0),
      // Divide each loss before adding it. The sum must stay finite, and a node may claim the largest float as its
      // loss.
      trainLoss: used.reduce((sum, { lossLast }) => sum + lossLast / used.length, 0),
      tokens: used.reduce((sum, { tokens }) => sum + tokens, 0),
      // The clock may have been set back during the round, but a checkpoint cannot hold a negative duration.
      seconds: Math.max(0, closedAt - openedAt) / 1000,
      outerRate: rate,
      updateBytes: used.reduce((sum, { size }) => sum + size, 0),
      drift: merged.drift,
    },
    ...settingsOf(round, context),
    createdAt: closedAt,
  };
}

/**
 * Returns an object with a checkpoint's field `settings`. The object is empty if the round has the manifest's
 * settings.
 */
function settingsOf(round: number, { settings }: RunContext): Pick<Checkpoint, 'settings'> {
  const record = settings.recordAt(round);
  return record === null ? {} : { settings: record };
}
