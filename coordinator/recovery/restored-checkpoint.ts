import type { Checkpoint } from '../../protocol/messages.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { RunContext } from '../context.ts';
import type { LostCheckpoint } from './lost-records.ts';

/** Records a checkpoint, and the round that ended with it. */
export function restoreCheckpoint(
  { round, digest, envelope, checkpoint }: LostCheckpoint,
  held: ReadonlySet<string>,
  { job, deps }: Pick<RunContext, 'job' | 'deps'>,
): void {
  const { rounds, blobs } = deps.store;
  const { parent, adapter, metrics, createdAt } = checkpoint;
  const openedAt = createdAt - Math.round(metrics.seconds * 1000);
  rounds.open(job, { round, parent: parent!, preset: 'dense', assignments: [], deadlineMs: 0, openedAt });
  rounds.close(job, round, createdAt);
  rounds.setOutcome(job, round, 'checkpoint');
  const restores = isRollBack(checkpoint) ? roundWithAdapter(adapter.digest, { job, deps }) : null;
  const { heldOutLoss } = metrics;
  rounds.putCheckpoint(job, { round, digest, envelope, residual: null, heldOutLoss, restores });
  blobs.use(job, 'job', 0, [digest]);
  if (held.has(adapter.digest)) blobs.use(job, 'adapter', round, [adapter.digest]);
  else rounds.markWeightsGone(job, round);
}

/** Returns whether a checkpoint is a roll-back. It must not be the first checkpoint of its job. */
export function isRollBack({ contributors, delta }: Checkpoint): boolean {
  return contributors.length === 0 && delta === null;
}

/** Returns the newest round whose checkpoint has this adapter; null if there is none. */
export function roundWithAdapter(
  digest: string,
  { job, deps }: Pick<RunContext, 'job' | 'deps'>,
): number | null {
  const found = deps.store.rounds
    .checkpoints(job)
    .findLast(({ envelope }) => verifyMessage('checkpoint', envelope).message.adapter.digest === digest);
  return found?.round ?? null;
}

/** Records that updates are part of a restored checkpoint. @param isKnown whether an update already has a receipt that stays */
export function acceptMerged(
  { term, contributors }: Checkpoint,
  isKnown: (peer: string, update: string) => boolean,
  { job, deps: { store, clock } }: Pick<RunContext, 'job' | 'deps'>,
): void {
  for (const { peer, update: digest, round } of contributors) {
    // A late update that the database still has must not be merged again.
    store.updates.setFate(job, round, peer, 'merged');
    if (isKnown(peer, digest)) continue;
    const detail = 'the coordinator has recovered the checkpoint that contains the update';
    const receipt = { term, round, peer, digest, code: 'accepted', detail, issuedAt: clock.now() } as const;
    store.updates.addReceipt(job, receipt);
  }
}

/**
 * Records rounds for the checkpoints that no node could give, so that the job still ends after its planned number of
 * checkpoints. Returns the number of these rounds.
 * @param gap rounds between which the checkpoints are missing
 */
export function countMissing(
  gap: { after: number; before: number },
  ordinal: number,
  { job, deps }: RunContext,
): number {
  const { rounds } = deps.store;
  const missing = Math.max(0, ordinal - rounds.count(job, 'checkpoint'));
  let filled = 0;
  for (let round = gap.after + 1; filled < missing && round < gap.before; round++) {
    if (rounds.find(job, round) !== null) continue;
    const at = deps.clock.now();
    rounds.open(job, { round, parent: '', preset: 'dense', assignments: [], deadlineMs: 0, openedAt: at });
    rounds.close(job, round, at);
    rounds.setOutcome(job, round, 'checkpoint');
    filled++;
  }
  return filled;
}
