import { isSwarmError } from '../../common/errors.ts';
import { decodeAdapter } from '../../lora/adapter/codec.ts';
import type { RowLoss } from '../../lora/train/step.ts';
import { STALE_ROUNDS } from '../../protocol/limits.ts';
import type { Checkpoint } from '../../protocol/messages.ts';
import { lostBlob } from '../../storage/lost-blobs.ts';
import type { Merged, MergeSource } from '../../verify/merge/merge-updates.ts';
import { believableTokens } from '../../verify/merge/update-weights.ts';
import { BELIEF_UPDATES, countedShare } from '../../verify/scores/belief.ts';
import type { CurrentCheckpoint, RunContext } from '../context.ts';
import { personOf } from '../peers/person.ts';
import type { StoredScore, StoredUpdate } from '../store/store.ts';
import { isSameUpdate } from '../store/update-key.ts';
import { merge } from './arithmetic.ts';
import { CheckpointLosses, type LowestCheckpoint } from './checkpoint-losses.ts';
import { type GateResult, type Person, passGate } from './gate.ts';
import { type ScoringDeps, UpdateScoring } from './scoring.ts';
import { suspicionOf } from './suspicion.ts';
import { untrainedUpdates } from './untrained.ts';

/**
 * Time limit for the gate's search for a merge that passes, as a multiple of the round's duration. The limit is
 * generous, because without a merge that passes, the work of the whole round is lost.
 */
const SEARCH_ROUNDS = 2;
/** Minimum of the time limit for the gate's search, in milliseconds. It applies if the round was short. */
const MIN_SEARCH_MS = 60_000;

/** A merge that has passed the gate. No part of it is durable yet. */
export interface MergeCandidate {
  readonly round: number;
  readonly parent: CurrentCheckpoint;
  readonly merged: Merged;
  /** Held-out losses of the merged adapter. */
  readonly losses: readonly RowLoss[];
  /** The outer rate with which the merge passed the gate. */
  readonly rate: number;
  /** Updates that the gate left out of the merge. */
  readonly leftOut: readonly MergeSource[];
}

/** A decision to go back to an earlier checkpoint instead of merging a round. No part of it is durable yet. */
export interface RollBack {
  readonly round: number;
  readonly parent: CurrentCheckpoint;
  /** The checkpoint whose adapter is restored. */
  readonly to: Checkpoint;
  /** Human-readable reason for the roll-back. */
  readonly reason: string;
}

/**
 * Scores a closed round's updates, merges them, and takes the result through the gate. A repetition, for example after
 * a restart, gives the same bits, unless the gate's search for a merge runs out of time.
 */
export class RoundMerge {
  readonly #context: RunContext;
  readonly #scoring: UpdateScoring;
  readonly #losses: CheckpointLosses;

  constructor(deps: ScoringDeps) {
    this.#context = deps.context;
    this.#losses = new CheckpointLosses(deps);
    this.#scoring = new UpdateScoring({}, { ...deps, onFallback: this.#losses.onFallback });
  }

  /**
   * Scores and merges the updates that were selected when the round closed. If the payload of one of them is missing or
   * damaged on disk, refuses the round, because a retry would fail in the same way. The authors add the updates of a
   * refused round back to their error feedback, so the other updates are not lost.
   * @returns the candidate, or the reason why no variant of the merge passed, or a roll-back if the parent is too far
   *   behind the lowest checkpoint
   * @throws SwarmError when merging or evaluating failed
   */
  async run(
    round: number,
    parent: CurrentCheckpoint,
  ): Promise<MergeCandidate | RollBack | { refused: string }> {
    const { job, manifest, deps } = this.#context;
    const updates = deps.store.updates.selected(job, round);
    const scores = await this.#scoring.run(round, parent, updates);
    deps.failpoint('scored');
    const sources = this.#sourcesOf(round, updates, scores);
    if (sources.length === 0) return { refused: 'every update raises the loss or changes nothing' };
    const startedAt = deps.clock.monotonic();
    try {
      const lowest = await this.#losses.lowestBefore(parent);
      const result = await this.#passGate(round, { parent, lowest }, sources, scores);
      const rollsBack = !result.accepted && result.isDrifted && lowest !== null;
      const seconds = (deps.clock.monotonic() - startedAt) / 1000;
      deps.meter.gate(manifest.name, { seconds, ...gateFigures(result, rollsBack) });
      if (rollsBack) {
        this.#losses.keep(round, lowest.losses);
        return { round, parent, to: lowest.checkpoint, reason: result.reason };
      }
      if (!result.accepted) return { refused: result.reason };
      const { merged, losses, rate, leftOut } = result;
      this.#losses.keep(round, losses);
      return { round, parent, merged, losses, rate, leftOut };
    } catch (error) {
      const isLost = isSwarmError(error, 'BLOB_MISSING') || isSwarmError(error, 'BLOB_CORRUPT');
      if (!isLost || !sources.some(({ digest }) => digest === error.values.digest)) throw error;
      return { refused: `an update was lost on the coordinator's disk: ${error.message}` };
    }
  }

  /** Adds to each update the facts that decide the update's weight. Leaves out harmful updates. */
  #sourcesOf(round: number, updates: readonly StoredUpdate[], scores: readonly StoredScore[]): MergeSource[] {
    const { job, manifest, deps } = this.#context;
    const { store } = deps;
    const rounds = store.rounds.newest(job, STALE_ROUNDS + 1);
    // A node that is no longer a member belongs to the person of the invite that it used last, as in
    // `Standings.who`.
    const invites = new Map<string, string | null>([
      ...store.invites.bindings(job).map(({ peer, invite }) => [peer, invite] as const),
      ...store.peers.all(job).map(({ peer, invite }) => [peer, invite] as const),
    ]);
    const known = updates.map((update) => {
      const { peer, round: made } = update;
      const { assignments } = rounds.find((facts) => facts.round === made)!;
      const { steps } = assignments.find((assignment) => assignment.peer === peer)!;
      const score = scores.find((one) => isSameUpdate(one, update))!;
      const earlier =
        score.earlier?.map(countedShare) ??
        store.scores.shares(job, peer, { before: round, limit: BELIEF_UPDATES });
      return { ...score, update, steps, earlier };
    });
    const untrained = untrainedUpdates(known);
    return known.flatMap(({ update, steps, earlier, belief, isHarmful }, i): MergeSource[] => {
      if (isHarmful) return [];
      const { peer, round: made, digest, size, preset, tokens } = update;
      return [
        {
          peer,
          round: made,
          digest,
          size,
          preset,
          tokens,
          maxTokens: believableTokens(steps, manifest),
          belief: untrained[i] ? 0 : belief,
          person: personOf({ peer, invite: invites.get(peer) ?? null }),
          isNewcomer: earlier.length < BELIEF_UPDATES,
        },
      ];
    });
  }

  async #passGate(
    round: number,
    { parent, lowest }: { parent: CurrentCheckpoint; lowest: LowestCheckpoint | null },
    sources: readonly MergeSource[],
    scores: readonly StoredScore[],
  ): Promise<GateResult<MergeSource, Merged>> {
    const { manifest, settings, layout, deps } = this.#context;
    const { rounds, acceptance } = manifest;
    const until = deps.clock.monotonic() + this.#searchMs(round);
    return passGate<MergeSource, Merged>({
      sources,
      rate: rounds.outerRate,
      tolerance: acceptance.tolerance,
      isLast: parent.ordinal + 1 >= settings.at(round).count,
      before: await this.#losses.of(parent.checkpoint),
      lowest: lowest?.losses ?? null,
      merge: (sources, rate) => this.#merge(round, parent, sources, rate),
      evaluate: (merged) => this.#losses.evaluate(decodeAdapter(merged.adapter, layout)),
      personsOf: (merged) => this.#personsOf(merged, sources, scores),
      hasTime: () => deps.clock.monotonic() < until,
    });
  }

  #searchMs(round: number): number {
    const { job, deps } = this.#context;
    const facts = deps.store.rounds.newest(job, 1).find((one) => one.round === round);
    const duration = facts?.closedAt ? facts.closedAt - facts.openedAt : 0;
    return Math.max(MIN_SEARCH_MS, SEARCH_ROUNDS * duration);
  }

  /** Returns the authors of the updates of a merge as persons, the most suspicious first. Leaves out outliers. */
  #personsOf(
    merged: Merged | null,
    sources: readonly MergeSource[],
    scores: readonly StoredScore[],
  ): Person<MergeSource>[] {
    const known = sources.flatMap((source) => {
      const entry = merged?.contributors.find((contributor) => isSameUpdate(contributor, source));
      if (merged && !entry) return [];
      const { person, tokens, belief } = source;
      return {
        source,
        person,
        weight: entry?.weight ?? tokens * belief,
        norm: entry?.norm ?? 0,
        share: scores.find((score) => isSameUpdate(score, source))?.share ?? null,
      };
    });
    return suspicionOf(known);
  }

  /** Merges updates with the outer rate `rate`. Returns null if the new adapter would have values out of range. */
  async #merge(
    round: number,
    parent: CurrentCheckpoint,
    sources: readonly MergeSource[],
    rate: number,
  ): Promise<Merged | null> {
    const { manifest, layout, deps, signal } = this.#context;
    const startedAt = deps.clock.monotonic();
    const input = {
      layout,
      baseDigest: manifest.base.digest,
      round,
      sources,
      rate,
      denominatorFloor: manifest.rounds.denominatorFloor,
      adapter: parent.checkpoint.adapter,
      residual: parent.residual,
    };
    try {
      const options = { blobs: deps.blobs, signal };
      return await merge(input, options).catch((error: unknown) => {
        // No other peer has the residual, so a lost residual is replaced by zeros. The step then lacks the quantisation
        // error of earlier steps, which is small. If the read error were thrown instead, the job could never continue.
        if (input.residual === null || lostBlob(error) !== input.residual) throw error;
        deps.log.warn({ round, residual: input.residual }, 'residual-lost');
        return merge({ ...input, residual: null }, options);
      });
    } catch (error) {
      // The cause is in the updates, so a retry would fail in the same way.
      if (isSwarmError(error, 'UPDATE_VALUES')) return null;
      throw error;
    } finally {
      const seconds = (deps.clock.monotonic() - startedAt) / 1000;
      const bytes = sources.reduce((sum, { size }) => sum + size, 0);
      deps.meter.merge(manifest.name, { seconds, bytes });
    }
  }
}

function gateFigures(result: GateResult<MergeSource, Merged>, rollsBack: boolean) {
  if (!result.accepted) {
    const verdict = rollsBack ? 'rolled-back' : 'refused';
    return { verdict, merged: 0, leftOut: 0, outliers: 0 } as const;
  }
  const { merged, verdict, leftOut } = result;
  const { contributors, outliers } = merged;
  return { verdict, merged: contributors.length, leftOut: leftOut.length, outliers: outliers.length };
}
