import { isSwarmError } from '../../common/errors.ts';
import { decodeOptimizer, freshOptimizer } from '../../lora/train/optimizer/optimizer-state.ts';
import { changedJobSchedule } from '../../lora/train/optimizer/schedule.ts';
import { ADAPTER_BYTES } from '../../protocol/limits.ts';
import { nodeError } from '../errors.ts';
import type { Work } from '../machine/work.ts';
import type { TrainedRound } from '../trainer/trainer.ts';
import type { RoundOptions } from '../trainer/trainer-share.ts';
import type { HeldAdapter, ReadyPort } from './port.ts';
import { rowsOf } from './round-rows.ts';

/**
 * Trains one round: fetches the rows of the node's interval and makes the optimiser steps. The optimiser continues from
 * the moments of the last round that ended with an update.
 * @throws SwarmError WRONG_ADAPTER, WORK_TOO_LARGE, NOTHING_TRAINED, BLOB_*, DATA_MISMATCH and errors of the trainer
 */
export async function train(
  context: ReadyPort,
  work: Work,
  before: HeldAdapter,
  options: RoundOptions,
): Promise<TrainedRound> {
  const { manifest, deps } = context;
  if (before.digest !== work.adapter) {
    throw nodeError(
      'WRONG_ADAPTER',
      `round ${work.round} starts from the adapter ${work.adapter}, but this node holds ${before.digest}`,
      {
        expected: work.adapter,
        held: before.digest,
      },
    );
  }
  const { localSteps } = manifest.rounds;
  // The machine's owner agreed to the manifest. A head must not ask for more steps than the manifest allows.
  if (work.steps > localSteps) {
    throw nodeError(
      'WORK_TOO_LARGE',
      `round ${work.round} asks for ${work.steps} steps; a round of this job has at most ${localSteps}`,
      { round: work.round, steps: work.steps, localSteps },
    );
  }
  const rows = await rowsOf(context, work, work.steps * manifest.training.batchSize, options.signal);
  const optimizer = await loadOptimizer(context);
  // The learning rate depends on the number of checkpoints of the job. A node that is late or slow therefore
  // uses the same rate as all other nodes, and a null round does not change the rate.
  const { learningRate, count } = work;
  const isChanged = learningRate !== null && count !== null;
  const schedule = changedJobSchedule(manifest, isChanged ? { learningRate, count } : undefined);
  const position = {
    start: work.committed * localSteps,
    perStep: localSteps / work.steps,
    ...(schedule && { schedule }),
  };
  const outcome = await deps.trainer.train(
    { adapter: before.tensors, rows, steps: work.steps, optimizer, position },
    options,
  );
  options.signal.throwIfAborted();
  if (outcome.result.tokens === 0) {
    throw nodeError(
      'NOTHING_TRAINED',
      `the ${rows.length} rows of round ${work.round} have no supervised token`,
      {
        round: work.round,
        rows: rows.length,
      },
    );
  }
  return outcome;
}

/** Maximum size of the encoded state of the optimiser: two moments of the adapter's size, and the step count. */
const OPTIMIZER_BYTES = 2 * ADAPTER_BYTES + 8;

/** Reads the moments that were stored with the last update. Returns zeros if there are none or if they are damaged. */
async function loadOptimizer({ deps, job, layout }: ReadyPort) {
  const { optimizer } = deps.store.job(job);
  if (optimizer === null) return freshOptimizer(layout);
  try {
    return decodeOptimizer(await deps.blobs.get(optimizer, { maxBytes: OPTIMIZER_BYTES }), layout);
  } catch (error) {
    if (!isSwarmError(error)) throw error;
    deps.log.error({ code: error.code, reason: error.message }, 'optimizer-state-lost');
    return freshOptimizer(layout);
  }
}
