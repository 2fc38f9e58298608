import { messageOf } from '../../common/errors.ts';
import { withProgress } from '../../common/time/progress-deadline.ts';
import { medianNormClip, planLayout, updateNorms } from '../../lora/update/index.ts';
import type { JobEventBody } from '../../protocol/api/job-events.ts';
import { STALE_ROUNDS } from '../../protocol/limits.ts';
import { votesOf } from '../../verify/merge/update-weights.ts';
import { BELIEF_UPDATES, beliefOf, countedShare, NEWCOMER_SHARE } from '../../verify/scores/belief.ts';
import type { CurrentCheckpoint, EvaluateOptions, RunContext } from '../context.ts';
import type { EarlierShare, StoredScore, StoredUpdate } from '../store/store.ts';
import { loadUpdate } from './arithmetic.ts';
import { OwnMeasurer, type Sent } from './measurer.ts';
import {
  type Candidate,
  type ClosedRound,
  type RoundFigures,
  RoundMeasurement,
  sharesByIndex,
  TIME_SHARE,
} from './score-figures.ts';
import { RemoteMeasurer, type Scorers } from './scorers.ts';

/**
 * Number of rounds from a failed attempt to score updates to the next attempt with the coordinator's own device. In the
 * rounds between them, only a scorer is asked, because each failed attempt can take a long time.
 */
const ROUNDS_AFTER_FAILURE = 8;
/**
 * Maximum number of parameters of an adapter whose updates the coordinator scores itself. The limit is needed because
 * scoring holds five gradients in memory, with four bytes per parameter: one for each of the four random batches, and
 * one for an author's rows. A scorer has no such limit. To check its figures, the coordinator holds one gradient.
 */
const MAX_OWN_PARAMETERS = 64_000_000;

/**
 * Maximum time without progress in the spot check of a scorer, in milliseconds. It must be long enough to start the
 * trainer process and to read a large base, which report no progress. It must not be longer, because the nodes wait for
 * the next round.
 */
const CHECK_IDLE_MS = 2 * 60_000;

export interface ScoringOptions {
  /** @default MAX_OWN_PARAMETERS */
  readonly maxOwnParameters?: number;
}

export interface ScoringDeps extends Pick<EvaluateOptions, 'onFallback'> {
  readonly context: RunContext;
  /** Runs `write` in a transaction, which also records the event. */
  readonly record: (write: () => void, event: JobEventBody | null) => void;
  /** Nodes that can compute figures for the coordinator. @default none */
  readonly scorers?: Scorers;
}

interface ScoredRound {
  readonly scores: readonly StoredScore[];
  /** Number of rows on which the figures were computed. */
  readonly rows: number;
  /** Peer id of the scorer that computed the figures; null if the coordinator computed them. */
  readonly scorer: string | null;
}

/**
 * Scores the updates of a closed round before they are merged, and computes beliefs from the scores. The seed that
 * chooses the rows is drawn after the round has closed, so that no author can know the rows in advance. Seed and scores
 * are stored before the merge uses them. Therefore a repetition after a crash gives the same weights, and anyone with
 * the data can check the scores.
 */
export class UpdateScoring {
  readonly #maxOwnParameters: number;
  readonly #deps: ScoringDeps;
  /** Number of the first round that the coordinator may score itself. The number rises when scoring fails. */
  #resumeAt = 0;

  constructor({ maxOwnParameters = MAX_OWN_PARAMETERS }: ScoringOptions, deps: ScoringDeps) {
    this.#maxOwnParameters = maxOwnParameters;
    this.#deps = deps;
  }

  /**
   * Returns a score for each update of a merge. Without a scorer, and if the coordinator may not score the round
   * itself, the scores contain only the beliefs that the authors have from earlier rounds. The same is true if scoring
   * fails, for example because the device is lost.
   * @throws the reason of the coordinator's stop, or an error of the store
   */
  async run(
    round: number,
    parent: CurrentCheckpoint,
    updates: readonly StoredUpdate[],
  ): Promise<readonly StoredScore[]> {
    const { context, record, scorers = null } = this.#deps;
    const { job, manifest, deps, signal } = context;
    const stored = deps.store.scores.ofMerge(job, round);
    if (stored.length > 0 || updates.length === 0) return stored;
    const unscored = updates.map((update) => this.#unscored(round, update));
    if (!this.#scoresItself(round) && !scorers?.choose(round, 'scores')) return unscored;
    const seed = deps.store.scores.seed(job, round) ?? deps.randomBytes(32);
    if (deps.store.scores.seed(job, round) === null) {
      record(() => deps.store.scores.putSeed(job, round, seed), null);
    }
    const startedAt = deps.clock.monotonic();
    let result: ScoredRound | null;
    try {
      result = await this.#score(updates, { round, parent, seed });
    } catch (error) {
      signal.throwIfAborted();
      this.#resumeAt = round + ROUNDS_AFTER_FAILURE;
      const reason = messageOf(error);
      deps.log.warn({ round, error }, 'scoring-failed');
      record(() => {}, { type: 'scoring-failed', round, reason });
      return unscored;
    }
    if (result === null) return unscored;
    const { scores, rows, scorer } = result;
    const count = (which: (score: StoredScore) => boolean): number => scores.filter(which).length;
    const figures = {
      scored: count(({ share, isHarmful }) => share !== null && !isHarmful),
      unscored: count(({ share }) => share === null),
      harmful: count(({ isHarmful }) => isHarmful),
      disbelieved: count(({ belief, isHarmful }) => belief === 0 && !isHarmful),
    };
    const seconds = (deps.clock.monotonic() - startedAt) / 1000;
    const write = (): void => {
      for (const score of scores) deps.store.scores.insert(job, score);
    };
    record(write, { type: 'scored', round, ...figures, rows, seconds, ...(scorer !== null && { scorer }) });
    deps.meter.scoring(manifest.name, { seconds, ...figures });
    return scores;
  }

  /** Returns whether the coordinator may compute the figures of a round with its own device. */
  #scoresItself(round: number): boolean {
    const { parameters } = planLayout(this.#deps.context.layout);
    return round >= this.#resumeAt && parameters <= this.#maxOwnParameters;
  }

  /** Returns null if the scorer failed and the coordinator may not score the round itself. */
  async #score(
    updates: readonly StoredUpdate[],
    closed: { round: number; parent: CurrentCheckpoint; seed: Uint8Array },
  ): Promise<ScoredRound | null> {
    const { round, parent } = closed;
    const { job, layout, deps, signal } = this.#deps.context;
    const rounds = new Map(
      deps.store.rounds.newest(job, STALE_ROUNDS + 1).map((facts) => [facts.round, facts]),
    );
    const norms: Float64Array[] = [];
    for (const update of updates) {
      norms.push(updateNorms(await loadUpdate(update, { layout, blobs: deps.blobs, signal })));
    }
    const earlier = updates.map(({ peer }) => this.#earlier(round, peer).map(countedShare));
    const votes = votesOf(
      earlier.map((shares) => ({ belief: beliefOf(shares), isNewcomer: shares.length < BELIEF_UPDATES })),
    );
    const scales = medianNormClip(norms, votes);
    const isEmpty = norms.map((norm) => norm.every((value) => value === 0));
    const isOfParent = updates.map(({ round }) => rounds.get(round)?.parent === parent.digest);
    const candidates = updates.flatMap((update, index): Candidate[] => {
      const facts = rounds.get(update.round);
      const assignment = facts?.assignments.find(({ peer }) => peer === update.peer);
      if (isEmpty[index] || !isOfParent[index] || !assignment) return [];
      return [{ index, update, scale: scales[index]!, assignment, earlier: earlier[index]! }];
    });
    const late = updates.flatMap((update, index): Sent[] =>
      isEmpty[index] || isOfParent[index] ? [] : [{ index, update, scale: scales[index]! }],
    );
    const measured = await this.#measure({ ...closed, facts: rounds.get(round)! }, candidates, late);
    if (measured === null) return null;
    const { figures, late: lateEffects, harmful, rows, scorer } = measured;
    const shares = sharesByIndex(candidates, measured);
    const scores = updates.map((update, index): StoredScore => {
      const before = this.#unscored(round, update);
      const found = { figures: figures.get(index) ?? null, late: lateEffects.get(index) ?? null };
      const isOut = isEmpty[index]! || harmful.has(index);
      // A late update can be harmful although its author is honest, because the adapter has changed since the update
      // was trained. The merge leaves the update out, but its share stays unknown.
      const share = isEmpty[index] || (isOut && isOfParent[index]) ? 0 : (shares.get(index) ?? null);
      if (share !== null) {
        const belief = beliefOf([share, ...earlier[index]!]);
        return { ...before, ...found, share, belief, isHarmful: isOut };
      }
      // Limit the belief in the author of a late update. Late updates get no scores, so without this limit, a node
      // could keep a high belief by always being late.
      const belief = isOfParent[index] ? before.belief : Math.min(before.belief, NEWCOMER_SHARE);
      return { ...before, ...found, belief, isHarmful: isOut };
    });
    return { scores, rows, scorer };
  }

  /**
   * Asks a scorer to compute the figures, if there is one. If the scorer does not answer in time, or if a spot check
   * fails or shows a wrong figure, the coordinator computes all figures itself. Returns null if the coordinator may not
   * do so.
   */
  async #measure(
    closed: ClosedRound,
    candidates: readonly Candidate[],
    late: readonly Sent[],
  ): Promise<(RoundFigures & { scorer: string | null }) | null> {
    const { context, record, scorers = null } = this.#deps;
    const { round, parent } = closed;
    const { log } = context.deps;
    const scorer = candidates.length === 0 ? null : (scorers?.choose(round, 'scores') ?? null);
    if (scorer !== null) {
      const report = (reason: string, isWrong: boolean): void =>
        record(() => {}, { type: 'scorer-failed', round, peer: scorer, work: 'scores', reason, isWrong });
      const measurer = new RemoteMeasurer(scorer, parent, { context });
      let measured: RoundFigures | null = null;
      try {
        measured = await new RoundMeasurement(closed, { context, measurer }).run(candidates, late);
      } catch (error) {
        context.signal.throwIfAborted();
        scorers!.noteSilence(scorer, round, 'scores');
        log.warn({ round, peer: scorer, error }, 'scorer-failed');
        report(messageOf(error), false);
      }
      if (measured !== null) {
        try {
          const { isRight, difference } = await this.#check(measurer, closed);
          if (isRight) return { ...measured, scorer };
          scorers!.noteWrong(scorer);
          log.warn({ round, peer: scorer, difference }, 'scorer-wrong');
          report(`its figures differ by ${(100 * difference).toFixed(1)} %`, true);
        } catch (error) {
          // The check uses only the coordinator's own device, so the error is not the scorer's fault.
          context.signal.throwIfAborted();
          log.warn({ round, peer: scorer, error }, 'scorer-unchecked');
        }
      }
    }
    if (!this.#scoresItself(round)) return null;
    const measurer = new OwnMeasurer(parent, this.#deps);
    const measured = await new RoundMeasurement(closed, { context, measurer }).run(candidates, late);
    return { ...measured, scorer: null };
  }

  /** Checks figures of a scorer with the coordinator's own device. @throws SwarmError DEADLINE_EXCEEDED */
  #check(measurer: RemoteMeasurer, { parent, facts }: ClosedRound): ReturnType<RemoteMeasurer['check']> {
    const { context, onFallback } = this.#deps;
    const { clock, randomBytes } = context.deps;
    const below = (limit: number): number => Buffer.from(randomBytes(6)).readUIntBE(0, 6) % limit;
    const limits = {
      clock,
      idleMs: CHECK_IDLE_MS,
      totalMs: Math.max(CHECK_IDLE_MS, TIME_SHARE * (facts.closedAt! - facts.openedAt)),
      signal: context.signal,
      what: 'the spot check of a scorer',
    };
    return withProgress(limits, (signal, onProgress) => {
      const own = new OwnMeasurer(parent, { context: { ...context, signal }, onFallback, onProgress });
      return measurer.check(own, below);
    });
  }

  /**
   * Returns the score of an update that was not measured. It has no figures, and its belief comes from the
   * author's earlier updates.
   */
  #unscored(mergeRound: number, { peer, round }: StoredUpdate): StoredScore {
    const earlier = this.#earlier(mergeRound, peer);
    const belief = beliefOf(earlier.map(countedShare));
    return {
      ...{ peer, round, mergeRound, earlier, belief },
      ...{ figures: null, late: null, share: null, isHarmful: false },
    };
  }

  #earlier(mergeRound: number, peer: string): EarlierShare[] {
    const { job, deps } = this.#deps.context;
    return deps.store.scores.earlier(job, peer, { before: mergeRound, limit: BELIEF_UPDATES });
  }
}
