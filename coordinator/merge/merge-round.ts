import { withDeadline } from '../../common/deadline.ts';
import { isSwarmError } from '../../common/errors.ts';
import { decodeAdapter } from '../../lora/adapter/codec.ts';
import { encodeCbor } from '../../protocol/cbor.ts';
import { ADAPTER_BYTES } from '../../protocol/limits.ts';
import type { Checkpoint } from '../../protocol/messages.ts';
import { signMessage, verifyMessage } from '../../protocol/signing.ts';
import type { BlobScope } from '../../storage/blob-collector.ts';
import type { CurrentCheckpoint, RunContext } from '../context.ts';
import { coordinatorError } from '../errors.ts';
import type { StoredUpdate } from '../store/store.ts';
import { gate, meanLoss, type RowLoss } from './gate.ts';
import type { Merged, MergeSource } from './merge-updates.ts';
import { EVALUATION_TIMEOUT_MS, type EvaluateOptions } from './validator.ts';

/** A merge that has passed the gate; nothing of it is durable yet. */
export interface MergeCandidate {
  readonly round: number;
  readonly parent: CurrentCheckpoint;
  readonly merged: Merged;
  readonly losses: readonly RowLoss[];
  readonly rate: number;
  readonly leftOut: MergeSource | null;
}

/** A checkpoint whose every byte is durable; only the record does not name it yet. */
export interface Prepared {
  readonly digest: string;
  readonly checkpoint: Checkpoint;
  readonly envelope: Uint8Array;
  readonly residual: string;
  readonly leftOut: MergeSource | null;
}

/** The two slow steps of a round, each repeatable with the same result: merge and check; make durable. */
export class RoundMerge {
  readonly #context: RunContext;
  readonly #onLighter: EvaluateOptions['onLighter'];
  /** Losses of the newest checkpoint that has been evaluated. */
  #evaluated: { digest: string; losses: readonly RowLoss[] } | null = null;

  constructor(_options: object, deps: { context: RunContext } & Pick<EvaluateOptions, 'onLighter'>) {
    this.#context = deps.context;
    this.#onLighter = deps.onLighter;
  }

  /**
   * Merges a closed round's updates and holds the result against its parent. Where the disk has lost one of them they all
   * go back to their authors, who have them still: tried again it would be missing again.
   * @returns what passed, or why nothing did
   * @throws SwarmError when merging or evaluating broke down
   */
  async merge(round: number, parent: CurrentCheckpoint): Promise<MergeCandidate | { refused: string }> {
    const sources = this.#context.deps.store.updates.selected(this.#context.job, round).map(sourceOf);
    try {
      return await this.#mergeAll(round, parent, sources);
    } catch (error) {
      const isLost = isSwarmError(error, 'BLOB_MISSING') || isSwarmError(error, 'BLOB_CORRUPT');
      if (!isLost || !sources.some(({ digest }) => digest === error.values.digest)) throw error;
      return { refused: `an update was lost on the coordinator's disk: ${error.message}` };
    }
  }

  async #mergeAll(
    round: number,
    parent: CurrentCheckpoint,
    sources: readonly MergeSource[],
  ): Promise<MergeCandidate | { refused: string }> {
    const { manifest, layout, deps, signal } = this.#context;
    const { rounds, acceptance, base } = manifest;
    const before = await this.#lossesOf(parent);
    const result = await gate<MergeSource, Merged>({
      sources,
      rate: rounds.outerRate,
      tolerance: acceptance.tolerance,
      before,
      merge: (sources, rate) =>
        deps.arithmetic
          .merge(
            {
              layout,
              baseDigest: base.digest,
              round,
              sources,
              rate,
              denominatorFloor: rounds.denominatorFloor,
              adapter: parent.checkpoint.adapter,
              residual: parent.residual,
            },
            { signal },
          )
          .catch((error: unknown) => {
            // What its updates say, not what befell the merge: tried again it would be the same.
            if (isSwarmError(error, 'UPDATE_VALUES')) return null;
            throw error;
          }),
      evaluate: (merged) => this.#evaluate(decodeAdapter(merged.adapter, layout)),
      suspects: ({ contributors }, sources) =>
        contributors
          .toSorted((a, b) => b.norm - a.norm)
          .map(({ peer, round: made }) => sources.find((s) => s.peer === peer && s.round === made)!),
    });
    if (!result.accepted) return { refused: result.reason };
    const { merged, losses, rate, leftOut } = result;
    return { round, parent, merged, losses, rate, leftOut };
  }

  /**
   * Writes a candidate's blobs, signed checkpoint and folder.
   * @param scope holds the blobs until the record names them
   * @throws SwarmError STORE_FULL, WRITE_FAILED
   */
  async prepare(candidate: MergeCandidate, scope: BlobScope): Promise<Prepared> {
    const { manifest, layout, deps } = this.#context;
    const { merged, losses } = candidate;
    const adapter = { digest: await scope.put(merged.adapter), size: merged.adapter.byteLength };
    const delta = { digest: await scope.put(merged.delta), size: merged.delta.byteLength };
    const residual = await scope.put(merged.residual);
    const checkpoint = this.#describe(candidate, adapter, delta);
    const envelope = signMessage('checkpoint', checkpoint, deps.network.signer);
    const { digest } = verifyMessage('checkpoint', envelope);
    // The body under its own digest: whoever has a head can walk back along the parents.
    await scope.put(encodeCbor(checkpoint));
    deps.failpoint('checkpoint-blobs');
    await deps.folders.write({ manifest, layout, digest, checkpoint, envelope });
    deps.failpoint('checkpoint-folder');
    this.#evaluated = { digest, losses };
    return { digest, checkpoint, envelope, residual, leftOut: candidate.leftOut };
  }

  /** Everything in it follows from what was recorded when the round closed, so that a repetition gives the same bytes. */
  #describe(
    { round, parent, merged, losses, rate }: MergeCandidate,
    adapter: { digest: string; size: number },
    delta: { digest: string; size: number },
  ): Checkpoint {
    const { job, stored, manifest, deps } = this.#context;
    const record = deps.store.rounds.newest(job, 1)[0];
    if (record?.round !== round || record.closedAt === null) {
      throw coordinatorError('ROUND_NOT_CLOSED', `round ${round} is not the job's closed round`, {
        job,
        round,
      });
    }
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
        // Each divided first: what strangers say may be as large as numbers go, and their sum must still be one.
        trainLoss: used.reduce((sum, { lossLast }) => sum + lossLast / used.length, 0),
        tokens: used.reduce((sum, { tokens }) => sum + tokens, 0),
        // The clock may have been set back in the round, and a checkpoint of negative length could never be signed.
        seconds: Math.max(0, record.closedAt - record.openedAt) / 1000,
        outerRate: rate,
        updateBytes: used.reduce((sum, { size }) => sum + size, 0),
        drift: merged.drift,
      },
      createdAt: record.closedAt,
    };
  }

  async #lossesOf({ digest, checkpoint }: CurrentCheckpoint): Promise<readonly RowLoss[]> {
    if (this.#evaluated?.digest === digest) return this.#evaluated.losses;
    const { deps, layout } = this.#context;
    const bytes = await deps.blobs.get(checkpoint.adapter.digest, { maxBytes: ADAPTER_BYTES });
    const losses = await this.#evaluate(decodeAdapter(bytes, layout));
    this.#evaluated = { digest, losses };
    return losses;
  }

  #evaluate(adapter: readonly Float32Array[]): Promise<readonly RowLoss[]> {
    const { job, manifest, deps, signal } = this.#context;
    const what = 'the evaluation of an adapter';
    return withDeadline({ clock: deps.clock, ms: EVALUATION_TIMEOUT_MS, signal, what }, (inner) =>
      deps.validator.evaluate({ job, manifest }, adapter, { signal: inner, onLighter: this.#onLighter }),
    );
  }
}

function sourceOf({ peer, round, digest, size, preset, tokens }: StoredUpdate): MergeSource {
  return { peer, round, digest, size, preset, tokens };
}
