import { isSwarmError } from '../../common/errors.ts';
import { encodeOptimizer } from '../../lora/train/optimizer/optimizer-state.ts';
import { ErrorFeedback } from '../../lora/update/feedback.ts';
import type { Outcome } from '../../protocol/api/node.ts';
import { jobTopic } from '../../protocol/job/topics.ts';
import { ADAPTER_BYTES, INLINE_UPDATE_BYTES, UPDATE_BYTES } from '../../protocol/limits.ts';
import { signMessage } from '../../protocol/signing.ts';
import type { Work } from '../machine/work.ts';
import type { TrainedRound } from '../trainer/trainer.ts';
import type { HeldAdapter, ReadyPort } from './port.ts';

/**
 * Builds a round's update. Stores the update, the error feedback and the optimiser's moments in one transaction. After
 * that, the node never makes another update of this round.
 * @returns digest and size of the payload
 * @throws SwarmError UPDATE_EXISTS, UPDATE_VALUES (training diverged), STORE_FULL, or the signal's reason. After an
 *   error, nothing is stored.
 */
export function buildUpdate(
  context: ReadyPort,
  work: Work,
  before: HeldAdapter,
  trained: TrainedRound,
  signal: AbortSignal,
): Promise<{ update: string; bytes: number }> {
  const { deps, collector, job, feedbackLock } = context;
  return feedbackLock(() =>
    collector.withScope(async (scope) => {
      signal.throwIfAborted();
      const feedback = await loadFeedback(context);
      const { feedbackRound } = deps.store.job(job);
      if (feedbackRound > 0) feedback.missRounds(Math.max(0, work.round - feedbackRound - 1));
      feedback.add(before.tensors.map((values, i) => difference(values, trained.adapter[i]!)));
      const payload = feedback.compress(work.preset).slice();
      const update = await scope.put(payload);
      const { result } = trained;
      const envelope = signMessage(
        'update',
        {
          job,
          term: work.term,
          round: work.round,
          parent: work.parent,
          preset: work.preset,
          start: work.start,
          end: work.end,
          steps: result.steps,
          tokens: result.tokens,
          seconds: result.seconds,
          lossFirst: result.lossFirst,
          lossLast: result.lossLast,
          payload: { digest: update, size: payload.byteLength },
          inline: payload.byteLength <= INLINE_UPDATE_BYTES ? payload : null,
        },
        deps.network.signer,
      ).slice();
      const stored = {
        feedback: await scope.put(feedback.encode()),
        optimizer: await scope.put(encodeOptimizer(trained.optimizer)),
        tokensPerSecond: result.seconds > 0 ? result.tokens / result.seconds : 0,
        work: { tokens: result.tokens, seconds: result.seconds },
      };
      signal.throwIfAborted();
      const { round, preset } = work;
      const bytes = payload.byteLength;
      const at = deps.clock.now();
      deps.store.saveUpdate({ ...stored, update: { job, round, update, bytes, preset, envelope, at } });
      return { update, bytes };
    }),
  );
}

/**
 * Publishes a stored update over gossip, sealed to the coordinator. Does nothing if the update's outcome is already
 * recorded.
 * @returns the number of peers that the update was sent to
 */
export async function publishUpdate({ deps, job, keys }: ReadyPort, round: number): Promise<number> {
  const record = deps.store.update(job, round);
  if (!record?.envelope) return 0;
  const sealed = keys.seal(record.envelope, 'update', deps.randomBytes);
  return deps.network.publish(jobTopic(job, 'updates'), sealed);
}

/**
 * Records an update's outcome. A restored update goes back into the error feedback. Does nothing if the outcome is
 * already recorded.
 */
export function settleUpdate(
  context: ReadyPort,
  { round, outcome }: { round: number; outcome: Outcome },
): Promise<void> {
  const { deps, collector, job, feedbackLock } = context;
  return feedbackLock(() =>
    collector.withScope(async (scope) => {
      const record = deps.store.update(job, round);
      if (!record || record.outcome !== null) return;
      let feedback: string | null = null;
      const payload = outcome === 'restored' ? await loadPayload(context, record.update) : null;
      if (payload) {
        const restored = await loadFeedback(context);
        // The residual has decayed in each round since the update's round. The update gets the same decay, as if it had
        // been in the residual all the time.
        const rounds = Math.max(0, deps.store.job(job).feedbackRound - round);
        restored.restore(payload, rounds);
        feedback = await scope.put(restored.encode());
      }
      deps.store.settle(job, round, { outcome, feedback });
    }),
  );
}

/** Size of the checksum and the layout digest, which a stored residual begins with. */
const RESIDUAL_HEADER_BYTES = 64;

/** Reads a payload. Returns null if it is damaged. The content of the update is then lost, and training continues. */
async function loadPayload({ deps }: ReadyPort, update: string): Promise<Uint8Array | null> {
  try {
    return await deps.blobs.get(update, { maxBytes: UPDATE_BYTES });
  } catch (error) {
    if (!isSwarmError(error)) throw error;
    deps.log.error({ update, code: error.code, reason: error.message }, 'payload-lost');
    return null;
  }
}

/** Reads the stored error feedback of a job. Starts with zeros if none is stored, or if it is damaged. */
async function loadFeedback({ deps, job, layout, manifest }: ReadyPort): Promise<ErrorFeedback> {
  const options = { layout, decay: manifest.rounds.errorFeedbackDecay };
  const { feedback } = deps.store.job(job);
  if (feedback === null) return new ErrorFeedback(options);
  try {
    const maxBytes = ADAPTER_BYTES + RESIDUAL_HEADER_BYTES;
    return ErrorFeedback.decode(await deps.blobs.get(feedback, { maxBytes }), options);
  } catch (error) {
    if (!isSwarmError(error)) throw error;
    deps.log.error({ code: error.code, reason: error.message }, 'error-feedback-lost');
    return new ErrorFeedback(options);
  }
}

/** Returns the pseudo-gradient, which is before − after. */
function difference(before: Float32Array, after: Float32Array): Float32Array {
  return before.map((value, index) => value - after[index]!);
}
