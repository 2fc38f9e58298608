import { withDeadline } from '../../common/deadline.ts';
import { decodeAdapter } from '../../lora/adapter/codec.ts';
import type { Row } from '../../lora/data/row.ts';
import { placesInRound, readRows } from '../../lora/data/shards/round-rows.ts';
import type { RowLoss } from '../../lora/train/step.ts';
import { medianNormClip, planLayout, updateNorms } from '../../lora/update/index.ts';
import { effectOf, isHarmful, type LossGradient, scoreUpdate, withUpdate } from '../../lora/update/score.ts';
import type { JobEventBody } from '../../monitor/job-events.ts';
import { ADAPTER_BYTES, STALE_ROUNDS } from '../../protocol/limits.ts';
import {
  type CurrentCheckpoint,
  EVALUATION_TIMEOUT_MS,
  type EvaluateOptions,
  type RunContext,
} from '../context.ts';
import { coordinatorError } from '../errors.ts';
import type { Assignment } from '../round/plan.ts';
import type { StoredRound, StoredScore, StoredUpdate } from '../store/store.ts';
import { loadUpdate } from './arithmetic.ts';
import { BELIEF_UPDATES, beliefOf, gainErrorOf, isDoubtful, NEWCOMER_SHARE, sharesOf } from './belief.ts';
import { meanLoss } from './comparison.ts';
import { LEAST_OWN_ROWS, planScoring } from './score-plan.ts';
import { votesOf } from './update-weights.ts';

/**
 * Time limit of a round's scoring, as a share of the round's duration. The limit is needed because the nodes wait for
 * the next round meanwhile. The time to prepare the computation does not count. A slow coordinator reads fewer rows per
 * update, and the updates that are left when the time is over get no score.
 */
const TIME_SHARE = 0.5;
/** Shortest time limit, in milliseconds. */
const LEAST_MS = 500;
/**
 * Smallest share of a round's updates that must be scored in time. The median of fewer updates says little about the
 * rest.
 */
const LEAST_SCORED = 0.5;
/**
 * Number of rounds from a failed attempt to the next attempt. The rounds between them are not scored, because a failed
 * attempt can take long.
 */
const ROUNDS_AFTER_FAILURE = 8;
/**
 * Number of parameters of the largest adapter whose updates are scored. Scoring holds five gradients of four bytes per
 * parameter in memory: one for each random batch, and one for an author's rows.
 */
const MOST_PARAMETERS = 64_000_000;

interface ClosedRound {
  readonly round: number;
  readonly parent: CurrentCheckpoint;
  readonly updates: readonly StoredUpdate[];
  /** Random bytes that choose the rows. */
  readonly seed: Uint8Array;
}

/** An update that is not empty. */
interface Sent {
  /** Index of the update among those of the merge. */
  readonly index: number;
  readonly update: StoredUpdate;
  /** Clipping factor of each tensor. */
  readonly scale: Float32Array;
}

/** An update that can be scored, because it was trained from the checkpoint that the merge changes. */
interface Candidate extends Sent {
  readonly assignment: Assignment;
  /** The author's earlier shares, newest first. */
  readonly earlier: readonly number[];
}

export interface ScoringDeps extends Pick<EvaluateOptions, 'onFallback'> {
  readonly context: RunContext;
  /** Runs `write` in a transaction, which also records the event. */
  readonly record: (write: () => void, event: JobEventBody | null) => void;
}

/**
 * Scores the updates of a closed round before they are merged, and turns the scores into belief. The seed that chooses
 * the rows is drawn after the round has closed, so that no author can know the rows in advance. Seed and scores are
 * stored before the merge uses them. A repetition after a crash therefore gives the same weights, and anyone with the
 * data can check the scores.
 */
export class UpdateScoring {
  readonly #deps: ScoringDeps;
  /** First round that is scored again after a failure. */
  #resumeAt = 0;

  constructor(deps: ScoringDeps) {
    this.#deps = deps;
  }

  /**
   * Returns a score for each update of a merge. If scoring fails, for example because the device is lost, the scores
   * contain only the belief that the authors have from earlier rounds.
   * @throws the reason of the coordinator's stop, or an error of the store
   */
  async run(
    round: number,
    parent: CurrentCheckpoint,
    updates: readonly StoredUpdate[],
  ): Promise<readonly StoredScore[]> {
    const { context, record } = this.#deps;
    const { job, manifest, layout, deps, signal } = context;
    const stored = deps.store.scores.ofMerge(job, round);
    if (stored.length > 0 || updates.length === 0) return stored;
    const unscored = updates.map((update) => this.#unscored(round, update));
    if (round < this.#resumeAt || planLayout(layout).parameters > MOST_PARAMETERS) return unscored;
    const seed = deps.store.scores.seed(job, round) ?? deps.randomBytes(32);
    if (deps.store.scores.seed(job, round) === null) {
      record(() => deps.store.scores.putSeed(job, round, seed), null);
    }
    const startedAt = deps.clock.monotonic();
    let result: { scores: StoredScore[]; rows: number };
    try {
      result = await this.#score({ round, parent, updates, seed });
    } catch (error) {
      signal.throwIfAborted();
      this.#resumeAt = round + ROUNDS_AFTER_FAILURE;
      const reason = error instanceof Error ? error.message : String(error);
      deps.log.warn({ round, error }, 'scoring-failed');
      record(() => {}, { type: 'scoring-failed', round, reason });
      return unscored;
    }
    const { scores, rows } = result;
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
    record(write, { type: 'scored', round, ...figures, rows, seconds });
    deps.meter.scoring(manifest.name, { seconds, ...figures });
    return scores;
  }

  async #score(closed: ClosedRound): Promise<{ scores: StoredScore[]; rows: number }> {
    const { updates, round, parent } = closed;
    const { job, layout, deps, signal } = this.#deps.context;
    const rounds = new Map(
      deps.store.rounds.newest(job, STALE_ROUNDS + 1).map((facts) => [facts.round, facts]),
    );
    const norms: Float64Array[] = [];
    for (const update of updates) {
      norms.push(updateNorms(await loadUpdate(update, { layout, blobs: deps.blobs, signal })));
    }
    const earlier = updates.map(({ peer }) => this.#sharesBefore(round, peer));
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
    const facts = rounds.get(round)!;
    const { figures, randomRows, rows, harmful } = await this.#measure({ candidates, late }, closed, facts);

    const measured = candidates.filter(({ index }) => figures.has(index));
    const shares = sharesOf(
      measured.map(({ index, assignment, earlier }) => {
        const { effect, effectError, gain, exact, ownRows } = figures.get(index)!;
        const gainError = gainErrorOf(effectError, { ownRows, randomRows });
        const { steps } = assignment;
        const whole = exact === null ? null : { effect: exact, steps };
        return { effect: effect / steps, gain, gainError, exact: whole, earlier };
      }),
    );
    const shareOf = (index: number): number | null => {
      const place = measured.findIndex((candidate) => candidate.index === index);
      return place < 0 || shares === null ? null : shares[place]!;
    };
    const scores = updates.map((update, index): StoredScore => {
      const before = this.#unscored(round, update);
      const found = figures.get(index) ?? null;
      const isOut = isEmpty[index]! || harmful.has(index);
      // A late update can be harmful although its author is honest, because the others have moved on since its parent.
      // The merge leaves it out, but its share stays unknown.
      const share = isEmpty[index] || (isOut && isOfParent[index]) ? 0 : shareOf(index);
      if (share !== null) {
        const belief = beliefOf([share, ...earlier[index]!]);
        return { ...before, figures: found, share, belief, isHarmful: isOut };
      }
      // Without this limit, a node could avoid scores by always being late.
      const belief = isOfParent[index] ? before.belief : Math.min(before.belief, NEWCOMER_SHARE);
      return { ...before, figures: found, belief, isHarmful: isOut };
    });
    return { scores, rows };
  }

  /**
   * Computes effect and gain of the candidates. The keys of `figures` are the `index` values of the candidates.
   * `harmful` has the indices of candidates and late updates that raise the loss.
   * @throws SwarmError SCORING_SLOW if there is time for less than half of the candidates
   */
  async #measure(
    { candidates, late }: { candidates: readonly Candidate[]; late: readonly Sent[] },
    { round, parent, seed }: ClosedRound,
    facts: StoredRound,
  ): Promise<{
    figures: Map<number, NonNullable<StoredScore['figures']>>;
    randomRows: number;
    rows: number;
    harmful: ReadonlySet<number>;
  }> {
    const { manifest, layout, deps, signal } = this.#deps.context;
    const { blobs, clock } = deps;
    const figures = new Map<number, NonNullable<StoredScore['figures']>>();
    const harmful = new Set<number>();
    if (candidates.length === 0) return { figures, randomRows: 0, rows: 0, harmful };
    const plan = planScoring(
      candidates.map(({ update, assignment: { start, end }, earlier }) => {
        return { key: `${update.peer} ${update.round}`, start, end, isDoubtful: isDoubtful(earlier) };
      }),
      {
        assignedEnd: Math.max(0, ...facts.assignments.map(({ end }) => end)),
        rows: manifest.data.rows,
        seed,
      },
    );
    const bytes = await blobs.get(parent.checkpoint.adapter.digest, { maxBytes: ADAPTER_BYTES });
    const adapter = decodeAdapter(bytes, layout);
    let rows = 0;
    const gradient = async (made: number, positions: readonly number[]): Promise<LossGradient> => {
      rows += positions.length;
      return this.#gradient(adapter, await this.#rowsAt(made, parent.digest, positions));
    };

    const [first, ...others] = plan.random;
    const random = [await gradient(round, first!)];
    // The first gradient prepares the computation. The clock starts after it.
    const startedAt = clock.monotonic();
    for (const positions of others) random.push(await gradient(round, positions));
    const randomRows = rows;
    const limit = Math.max(LEAST_MS, TIME_SHARE * (facts.closedAt! - facts.openedAt));
    const spent = clock.monotonic() - startedAt;
    const perRow = spent / Math.max(1, randomRows - first!.length);
    const wanted = plan.own.reduce((sum, { positions }) => sum + positions.length, 0);
    const affordable = perRow > 0 ? (limit - spent) / perRow / wanted : 1;
    for (const { candidate, positions } of plan.own) {
      if (clock.monotonic() - startedAt > limit) break;
      const { index, update, scale } = candidates[candidate]!;
      const chosen = positions.slice(0, Math.max(LEAST_OWN_ROWS, Math.floor(affordable * positions.length)));
      const own = await gradient(update.round, chosen);
      const sent = await loadUpdate(update, { layout, blobs, signal });
      const score = scoreUpdate(sent, { random, own, scale });
      figures.set(index, { ...score, exact: null, ownRows: chosen.length });
      if (isHarmful(score)) harmful.add(index);
    }
    if (figures.size < LEAST_SCORED * candidates.length) {
      const message = `${figures.size} of ${candidates.length} updates could be scored in ${Math.round(limit)} ms; give the coordinator more threads or a GPU`;
      const values = { scored: figures.size, updates: candidates.length, ms: limit };
      throw coordinatorError('SCORING_SLOW', message, values);
    }
    const losses = async (at: readonly Float32Array[]): Promise<number> =>
      meanLoss(await this.#losses(at, await this.#rowsAt(round, parent.digest, plan.exact.positions))) ?? 0;
    let before: number | null = null;
    for (const candidate of plan.exact.candidates) {
      const { index, update, scale } = candidates[candidate]!;
      const known = figures.get(index);
      if (!known || harmful.has(index)) continue;
      if (clock.monotonic() - startedAt > limit) break;
      before ??= await losses(adapter);
      const sent = await loadUpdate(update, { layout, blobs, signal });
      figures.set(index, { ...known, exact: before - (await losses(withUpdate(adapter, sent, scale))) });
      rows += plan.exact.positions.length;
    }
    // The effect of a late update needs no further gradient.
    for (const { index, update, scale } of late) {
      const sent = await loadUpdate(update, { layout, blobs, signal });
      if (isHarmful(effectOf(sent, { random, scale }))) harmful.add(index);
    }
    return { figures, randomRows, rows, harmful };
  }

  /** Returns the score of an update without figures. Its belief comes from the author's earlier updates. */
  #unscored(mergeRound: number, { peer, round }: StoredUpdate): StoredScore {
    const belief = beliefOf(this.#sharesBefore(mergeRound, peer));
    return { peer, round, mergeRound, figures: null, share: null, belief, isHarmful: false };
  }

  #sharesBefore(mergeRound: number, peer: string): number[] {
    const { job, deps } = this.#deps.context;
    return deps.store.scores.shares(job, peer, { before: mergeRound, limit: BELIEF_UPDATES });
  }

  #rowsAt(round: number, parent: string, positions: readonly number[]): Promise<Row[]> {
    const { job, manifest, deps, signal } = this.#deps.context;
    const places = placesInRound(manifest.data, { job, round, parent }, positions);
    return readRows(manifest.data, places, {
      read: ({ digest, size }) => deps.blobs.get(digest, { maxBytes: size }),
      signal,
    });
  }

  #losses(adapter: readonly Float32Array[], rows: readonly Row[]): Promise<readonly RowLoss[]> {
    const { context, onFallback } = this.#deps;
    const { job, manifest, deps, signal } = context;
    const what = 'the losses for the scores of updates';
    return withDeadline({ clock: deps.clock, ms: EVALUATION_TIMEOUT_MS, signal, what }, (inner) =>
      deps.validator.losses({ job, manifest }, adapter, rows, { signal: inner, onFallback }),
    );
  }

  #gradient(adapter: readonly Float32Array[], rows: readonly Row[]): Promise<LossGradient> {
    const { context, onFallback } = this.#deps;
    const { job, manifest, deps, signal } = context;
    const what = 'the gradient for the scores of updates';
    return withDeadline({ clock: deps.clock, ms: EVALUATION_TIMEOUT_MS, signal, what }, (inner) =>
      deps.validator.gradient({ job, manifest }, adapter, rows, { signal: inner, onFallback }),
    );
  }
}
