/** Computes the figures of a round's updates (effects, gains and exact effects) from gradients and losses. */
import { effectOf, isHarmful } from '../../lora/update/score.ts';
import { BELIEF_LINE, gainErrorOf, isDoubtful, sharesOf } from '../../verify/scores/belief.ts';
import { type ExactPlan, MIN_OWN_ROWS, planScoring } from '../../verify/scores/score-plan.ts';
import type { CurrentCheckpoint, RunContext } from '../context.ts';
import { coordinatorError } from '../errors.ts';
import type { Assignment } from '../round/plan.ts';
import type { StoredRound, StoredScore } from '../store/store.ts';
import type { Batch, Measurer, Sent } from './measurer.ts';

/**
 * Time limit of a round's scoring, as a fraction of the round's duration. The limit is needed because the nodes wait
 * for the next round during this time. The time to prepare the computation does not count. A slow coordinator uses
 * fewer rows per update. Updates that have not been scored when the time is over get no score.
 */
export const TIME_SHARE = 0.5;
/** Lower bound of the time limit for scoring, in milliseconds. */
const MIN_SCORING_MS = 500;
/**
 * Minimum fraction of a round's updates that must be scored in time. If fewer updates have a score, scoring fails with
 * SCORING_SLOW, because the median of a minority says little about the other updates.
 */
const MIN_SCORED_SHARE = 0.5;

export interface ClosedRound {
  readonly round: number;
  readonly parent: CurrentCheckpoint;
  readonly facts: StoredRound;
  /** Random bytes that decide on which rows the updates are scored. */
  readonly seed: Uint8Array;
}

/** An update that can be scored, because it was trained from the checkpoint that the merge changes. */
export interface Candidate extends Sent {
  readonly assignment: Assignment;
  /** The author's earlier shares, newest first. */
  readonly earlier: readonly number[];
}

type FiguresOfUpdate = NonNullable<StoredScore['figures']>;

export interface RoundFigures {
  /** Figures of the scored updates, by the `index` of the candidates. */
  readonly figures: ReadonlyMap<number, FiguresOfUpdate>;
  /** Number of random rows on which the effects were computed. */
  readonly randomRows: number;
  /** Total number of rows that were read: the random rows, and rows of the authors' intervals. */
  readonly rows: number;
  /** Effects of the late updates, by their `index`. */
  readonly late: ReadonlyMap<number, NonNullable<StoredScore['late']>>;
  /** The `index` of each candidate or late update that raises the loss. */
  readonly harmful: ReadonlySet<number>;
}

/**
 * Returns the shares of the candidates that have figures, by `index`. The map is empty if the updates cannot be
 * compared.
 */
export function sharesByIndex(
  candidates: readonly Candidate[],
  { figures, randomRows }: Pick<RoundFigures, 'figures' | 'randomRows'>,
): ReadonlyMap<number, number> {
  const measured = candidates.filter(({ index }) => figures.has(index));
  const shares = sharesOf(
    measured.map(({ index, assignment: { steps }, earlier }) => {
      const { effect, effectError, gain, exact, ownRows } = figures.get(index)!;
      const gainError = gainErrorOf(effectError, { ownRows, randomRows });
      const whole = exact === null ? null : { effect: exact, steps };
      const perStep = { effect: effect / steps, effectError: effectError / steps };
      return { ...perStep, gain, gainError, exact: whole, earlier };
    }),
  );
  return new Map(shares?.map((share, i) => [measured[i]!.index, share]));
}

/** Measures the updates of one closed round. */
export class RoundMeasurement {
  readonly #context: RunContext;
  readonly #measurer: Measurer;
  readonly #closed: ClosedRound;
  #rows = 0;

  constructor(closed: ClosedRound, deps: { context: RunContext; measurer: Measurer }) {
    this.#closed = closed;
    this.#context = deps.context;
    this.#measurer = deps.measurer;
  }

  /**
   * Computes the figures of the candidates, and finds harmful updates.
   * @param late updates that are not scored, because they were trained from an older checkpoint
   * @throws SwarmError SCORING_SLOW if there is time for less than half of the candidates
   */
  async run(candidates: readonly Candidate[], late: readonly Sent[]): Promise<RoundFigures> {
    const { manifest, deps } = this.#context;
    const { clock } = deps;
    const figures = new Map<number, FiguresOfUpdate>();
    const harmful = new Set<number>();
    const lateEffects = new Map<number, NonNullable<StoredScore['late']>>();
    if (candidates.length === 0) return { figures, randomRows: 0, rows: 0, late: lateEffects, harmful };
    const { round, facts, seed } = this.#closed;
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
    const measurer = this.#measurer;
    const [first, ...others] = plan.random;
    await measurer.addRandom(this.#counted(round, first!));
    // Start the clock after the first gradient, because this gradient includes the preparation of the computation.
    const startedAt = clock.monotonic();
    for (const positions of others) await measurer.addRandom(this.#counted(round, positions));
    const randomRows = this.#rows;
    const limit = Math.max(MIN_SCORING_MS, TIME_SHARE * (facts.closedAt! - facts.openedAt));
    const spent = clock.monotonic() - startedAt;
    const isOver = (): boolean => clock.monotonic() - startedAt > limit;
    const perRow = spent / Math.max(1, randomRows - first!.length);
    const wanted = plan.own.reduce((sum, { positions }) => sum + positions.length, 0);
    const affordable = perRow > 0 ? (limit - spent) / perRow / wanted : 1;
    for (const { candidate, positions } of plan.own) {
      if (isOver()) break;
      const sent = candidates[candidate]!;
      const chosen = positions.slice(0, Math.max(MIN_OWN_ROWS, Math.floor(affordable * positions.length)));
      const own = this.#counted(sent.update.round, chosen);
      const products = await measurer.products(sent, own);
      const effect = effectOf(products.random);
      const gain = products.own! - effect.effect;
      figures.set(sent.index, { ...effect, gain, exact: null, ownRows: chosen.length });
      if (isHarmful(effect)) harmful.add(sent.index);
    }
    if (figures.size < MIN_SCORED_SHARE * candidates.length) {
      const message = `only ${figures.size} of ${candidates.length} updates could be scored in ${Math.round(limit)} ms; give the coordinator more threads or a GPU, or start "lora-swarm node --score" on a faster machine`;
      const values = { scored: figures.size, updates: candidates.length, ms: limit };
      throw coordinatorError('SCORING_SLOW', message, values);
    }
    const shares = sharesByIndex(candidates, { figures, randomRows });
    // An exact effect can only lower a share, so it is not needed for an update that has no weight anyway.
    const isWeightless = (index: number): boolean =>
      harmful.has(index) || (shares.get(index) ?? 1) < BELIEF_LINE;
    await this.#addExact(plan.exact, candidates, { figures, isWeightless, isOver });
    // Check the effects of late updates too. This takes little time, because the gradients have been computed
    // already.
    for (const sent of late) {
      const { random } = await measurer.products(sent, null);
      const effect = effectOf(random);
      lateEffects.set(sent.index, effect);
      if (isHarmful(effect)) harmful.add(sent.index);
    }
    return { figures, randomRows, rows: this.#rows, late: lateEffects, harmful };
  }

  /** Measures exact effects and adds them to the figures. Stops after `most` measurements, or when the time is over. */
  async #addExact(
    { positions, candidates: order, most }: ExactPlan,
    candidates: readonly Candidate[],
    round: {
      figures: Map<number, FiguresOfUpdate>;
      isWeightless: (index: number) => boolean;
      isOver: () => boolean;
    },
  ): Promise<void> {
    const { figures, isWeightless, isOver } = round;
    let before: number | null = null;
    let measured = 0;
    for (const candidate of order) {
      const sent = candidates[candidate]!;
      const { index } = sent;
      const known = figures.get(index);
      if (!known || isWeightless(index)) continue;
      if (measured === most || isOver()) return;
      before ??= await this.#loss(null, positions);
      const after = await this.#loss(sent, positions);
      figures.set(index, { ...known, exact: before - after });
      measured++;
    }
  }

  /**
   * Returns the mean loss on random rows, in nats per token.
   * @param sent the update to apply to the checkpoint before the loss is computed; null for none
   */
  #loss(sent: Sent | null, positions: readonly number[]): Promise<number> {
    return this.#measurer.loss(sent, this.#counted(this.#closed.round, positions));
  }

  /** Makes a batch of rows that a measurement is about to read, and adds its rows to the count. */
  #counted(round: number, positions: readonly number[]): Batch {
    this.#rows += positions.length;
    return { round, positions };
  }
}
