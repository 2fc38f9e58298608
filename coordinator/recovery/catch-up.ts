import type { JobEvent } from '../../protocol/api/job-events.ts';
import { STALE_ROUNDS } from '../../protocol/limits.ts';
import { counts } from '../../protocol/receipts.ts';
import { signMessage, verifyMessage } from '../../protocol/signing.ts';
import type { RunContext } from '../context.ts';
import { makeHead } from '../record/heads.ts';
import { JobSettings } from '../record/job-settings.ts';
import type { LostRecords } from './lost-records.ts';
import { missingRemovals, restoreRemovals } from './lost-removals.ts';
import {
  acceptMerged,
  countMissing,
  isRollBack,
  restoreCheckpoint,
  roundWithAdapter,
} from './restored-checkpoint.ts';

/**
 * Restores the lost records that nodes have sent, and makes a head that is later than the heads of these nodes. Before
 * the call, the caller must store the bodies of the checkpoints and the adapter of the newest checkpoint. The caller
 * must call this function in a transaction, and restart the job afterwards.
 *
 * - Rounds and checkpoints of the database that are not part of the recovered chain are dropped, because each node
 *   either does not know these rounds or follows the later head.
 * - If checkpoints between the database and the recovered chain are missing, the job continues without them. `KeptCheckpoints`
 *   asks further nodes for them.
 * - If the recovered chain ends before the checkpoint of the head, the rounds after the chain are lost. Their numbers
 *   are not used again.
 * - The next round and the new head have higher numbers than all rounds and heads of the nodes and of the database. The
 *   numbers in the database may be higher than those of the nodes if they are from an earlier term.
 * - Each update that a recovered checkpoint contains gets the receipt `accepted`. Its author therefore counts it, and
 *   does not add it back to its error feedback.
 * - Each accepted update that the coordinator has lost, and that no checkpoint contains, gets the receipt `null-round`.
 *   Its author therefore adds it back to its error feedback. Such an update can also belong to a round before the lost
 *   rounds, because it may have been late.
 * - The job gets the changes of the settings that the recovered head names, because nodes refuse a head without these
 *   changes.
 * - Orders of the operator that have taken effect in the lost rounds do not take effect again.
 * - Invites that were revoked after the backup are revoked again, and bans are imposed again. The job key changes.
 * - The term grows by one. Updates that were made for the lost rounds have the old term, so no merge can contain them
 *   again. Another copy of this coordinator that still runs has the old term too, and nodes ignore its heads.
 * @param options `from`: the peer that claimed to have a later head. `held`: digests of the adapters in the blob store
 * @returns the event, which the caller must announce
 */
export function catchUp(
  lost: LostRecords,
  { from, held }: { from: string; held: ReadonlySet<string> },
  context: RunContext,
): JobEvent {
  const { job, deps, manifest, stored } = context;
  const { store, clock, network } = deps;
  const now = clock.now();
  store.jobs.replaceSettings(
    job,
    lost.settings.map(({ digest, envelope, record: { sequence } }) => ({ sequence, digest, envelope })),
  );
  const settings = new JobSettings({ stored, manifest }, deps);
  const [newest] = store.rounds.newestCheckpoints(job, 1);
  const before = newest!.round;
  const newestRound = store.rounds.newestNumber(job);
  const firstLost = lost.checkpoints[0]?.round ?? Number.MAX_SAFE_INTEGER;
  const ancestor =
    lost.ancestor === null
      ? store.rounds.newestCheckpointBefore(job, firstLost)!
      : store.rounds.checkpointOf(job, lost.ancestor)!;
  store.rounds.forgetAfter(job, ancestor.round);
  const dropped = store.updates.ofRounds(job, ancestor.round + 1, Number.MAX_SAFE_INTEGER);
  store.updates.forgetAfter(job, ancestor.round);
  store.updates.unselectAfter(job, ancestor.round);
  store.audits.forgetAfter(job, ancestor.round);
  // The scores in the database may differ from the scores that the lost merge used.
  store.scores.forgetAfter(job, ancestor.round);
  for (const use of ['adapter', 'step', 'update', 'audit'] as const) {
    store.blobs.release(job, use, ancestor.round + 1, Number.MAX_SAFE_INTEGER);
  }
  const restored = [...lost.beforeGap, ...lost.checkpoints];
  for (const checkpoint of restored) restoreCheckpoint(checkpoint, held, context);
  // Mark the weights of the checkpoint as kept again. They may have been deleted while the job continued without the
  // lost rounds.
  if (lost.start.digest === ancestor.digest) {
    store.blobs.use(job, 'adapter', ancestor.round, [lost.start.adapter.digest]);
    store.rounds.holdWeights(job, ancestor.round);
  }
  const oldest = ancestor.round - STALE_ROUNDS;
  const merged = new Set(
    store.rounds
      .newestCheckpoints(job, restored.length + STALE_ROUNDS + 1)
      .flatMap(({ envelope }) => verifyMessage('checkpoint', envelope).message.contributors)
      .map(({ peer, update }) => `${peer} ${update}`),
  );
  // A checkpoint that is missing because no node could give it may contain an update of its own round or an earlier one. The
  // receipts of such updates stay.
  const mayBeMissing = (round: number): boolean => lost.ancestor === null && round < firstLost;
  const known = new Set<string>();
  for (const receipt of lost.receipts) {
    const id = `${receipt.peer} ${receipt.digest}`;
    known.add(id);
    if (store.updates.receipt(job, receipt.peer, receipt.digest) !== null) continue;
    const isStored = store.updates.find(job, receipt.round, receipt.peer)?.digest === receipt.digest;
    const isLost = !mayBeMissing(receipt.round) && receipt.round >= oldest && !merged.has(id) && !isStored;
    const isEnded = isLost && counts(receipt.code);
    store.updates.addReceipt(job, receipt);
    if (isEnded) store.updates.addReceipt(job, { ...receipt, ...LOST, issuedAt: now });
  }
  const isKnown = (peer: string, update: string): boolean => known.has(`${peer} ${update}`);
  for (const { checkpoint } of restored) acceptMerged(checkpoint, isKnown, context);
  for (const { round, peer, digest } of dropped) {
    if (mayBeMissing(round)) continue;
    const receipt = store.updates.receipt(job, peer, digest);
    if (receipt === null || !counts(receipt.code) || merged.has(`${peer} ${digest}`)) continue;
    store.updates.addReceipt(job, { ...receipt, round, ...LOST, issuedAt: now });
  }
  const { removals } = lost;
  if (removals !== null) restoreRemovals(missingRemovals(removals.sealed, context), context);
  // Make a new job key, because persons who were removed after the backup know the key in the backup.
  context.keys.rotate({ after: removals?.sequence });
  const { ordinal } = lost.start;
  const dropsCheckpoints = lost.start.digest !== lost.head.checkpoint.digest;
  const unrecovered = dropsCheckpoints ? Math.max(0, lost.head.checkpoint.ordinal - ordinal) : 0;
  const missing =
    countMissing({ after: ancestor.round, before: lost.start.round }, ordinal, context) + unrecovered;
  const term = lost.head.term + 1;
  store.jobs.setTerm(job, term);
  // The recovered head does not say who paused the job, so the cause of a pause is unknown.
  store.jobs.setPauseCause(job, null);
  cancelOrders(lost, context);
  // A queued job signs no further head, so this job had left the queue.
  if (context.place.after !== null) context.place.leaveQueue();
  const last = store.rounds.checkpointOf(job, lost.start.digest)!;
  const { message: checkpoint } = verifyMessage('checkpoint', last.envelope);
  const current = { digest: last.digest, checkpoint, ordinal, residual: last.residual };
  // If the last checkpoint of the job is lost, the job makes another one.
  const isUnfinished = dropsCheckpoints && lost.head.checkpoint.ordinal >= settings.newest.count;
  const phase =
    lost.head.phase === 'paused' || (lost.head.phase === 'finished' && !isUnfinished)
      ? lost.head.phase
      : 'waiting';
  const isResting = phase !== 'waiting';
  const reason = isResting ? lost.head.reason : waitingReason(lost, manifest.rounds.minPeers);
  const own = verifyMessage('head', store.jobs.head(job)!).message;
  const nextRound = isResting ? lost.head.round : lost.head.round + 1;
  const head = makeHead(
    { job, term, sequence: Math.max(lost.head.sequence, own.sequence) + 1 },
    {
      phase,
      round: phase === 'finished' ? lost.head.round : Math.max(nextRound, newestRound + 1),
      preset: lost.head.preset,
      assignments: [],
      deadlineMs: 0,
      reason,
      issuedAt: now,
    },
    current,
  );
  const signed = signMessage('head', { ...head, ...settings.headFields(head.round) }, network.signer);
  store.jobs.putHead(job, head.sequence, signed);
  return store.events.append(job, now, {
    type: 'caught-up',
    before,
    round: last.round,
    term,
    checkpoints: restored.length,
    missing,
    heldOutLoss: last.heldOutLoss,
    roundsDone: ordinal,
    phase,
    peer: from,
  });
}

/**
 * Cancels the roll-back, pause or stop that the operator had ordered before the backup, if it has taken effect in the
 * lost rounds. If the checkpoint of a roll-back is lost, the coordinator rolls back again after the next round.
 */
function cancelOrders({ head, checkpoints, start }: LostRecords, { job, stored, deps }: RunContext): void {
  const { jobs } = deps.store;
  const own = verifyMessage('head', jobs.head(job)!).message;
  if (head.round > own.round) jobs.setEnding(job, null);
  const { delta, adapter, digest, ordinal } = head.checkpoint;
  const isLostRollBack =
    start.digest !== digest && ordinal > 0 && delta === null && head.included.length === 0;
  const restored = isLostRollBack ? roundWithAdapter(adapter.digest, { job, deps }) : null;
  if (restored !== null) jobs.setRollBack(job, restored);
  else if (stored.rollBackTo === null) return;
  // A roll-back takes effect in the round after the one in which it was ordered.
  else if (head.round > own.round + 1 || checkpoints.some(({ checkpoint }) => isRollBack(checkpoint))) {
    jobs.setRollBack(job, null);
  }
}

function waitingReason({ head, start }: LostRecords, minPeers: number): string {
  const needed = minPeers === 1 ? 'a node' : `${minPeers} nodes`;
  if (start.digest === head.checkpoint.digest) {
    return `the coordinator has caught up with its nodes, and waits for ${needed}`;
  }
  return `the coordinator was restored from an old backup, and no connected node has both the checkpoint of round ${head.checkpoint.round} and its adapter. The job therefore continues from the checkpoint of round ${start.round}, and waits for ${needed}`;
}

/** Code and detail of the receipt of an update that no checkpoint contains, and that the database lacks. */
export const LOST = { code: 'null-round', detail: 'the coordinator has lost the update' } as const;
