/** Reads the input of an audit: the rows of a node's interval, and the checkpoint from which the node started. */
import { decodeAdapter } from '../../lora/adapter/codec.ts';
import type { Row } from '../../lora/data/row.ts';
import { placesInRound, readRows } from '../../lora/data/shards/round-rows.ts';
import { changedJobSchedule } from '../../lora/train/optimizer/schedule.ts';
import type { JobPosition } from '../../lora/train/trainer.ts';
import { ADAPTER_BYTES } from '../../protocol/limits.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { RunContext } from '../context.ts';
import type { StoredAudit } from '../store/store.ts';

/** The training steps that an audit repeats. */
export interface Repetition {
  /** The adapter of the checkpoint that the node started from. */
  readonly parent: readonly Float32Array[];
  /** Rows in training order. */
  readonly rows: readonly Row[];
  readonly steps: number;
  /**
   * Progress of the job when the round began, and the number of steps that the node had made in earlier rounds
   * (`before`). Both decide the learning rate.
   */
  readonly position: JobPosition & { readonly before: number };
}

/**
 * Reads the adapter and the rows of an audit.
 * @throws SwarmError BLOB_MISSING, BLOB_CORRUPT
 */
export async function readRepetition(audit: StoredAudit, context: RunContext): Promise<Repetition> {
  const { job, manifest, settings, layout, deps, signal } = context;
  const { store, blobs } = deps;
  const { data, training, rounds } = manifest;
  const facts = store.rounds.find(job, audit.round)!;
  const parent = store.rounds.checkpointOf(job, facts.parent)!;
  const { digest } = verifyMessage('checkpoint', parent.envelope).message.adapter;
  const { start, end, steps } = facts.assignments.find(({ peer }) => peer === audit.peer)!;
  const isChanged = settings.recordAt(audit.round) !== null;
  const schedule = changedJobSchedule(manifest, isChanged ? settings.at(audit.round) : undefined);
  const positions = Array.from({ length: steps * training.batchSize }, (_, i) => start + (i % (end - start)));
  const key = { job, round: audit.round, parent: facts.parent };
  const rows = await readRows(data, placesInRound(data, key, positions), {
    read: (shard) => blobs.get(shard.digest, { maxBytes: shard.size }),
    signal,
  });
  return {
    parent: decodeAdapter(await blobs.get(digest, { maxBytes: ADAPTER_BYTES }), layout),
    rows,
    steps,
    position: {
      // Must equal the position that node/phases/train.ts computes, so that node and coordinator use the same
      // learning rates.
      start: parent.ordinal * rounds.localSteps,
      perStep: rounds.localSteps / steps,
      ...(schedule && { schedule }),
      before: steps * store.updates.roundsBefore(job, audit.peer, audit.round),
    },
  };
}
