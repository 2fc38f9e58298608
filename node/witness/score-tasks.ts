import { isSwarmError, messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { Clock } from '../../common/time/clock.ts';
import type { Row } from '../../lora/data/row.ts';
import type { TrainerOptions } from '../../lora/train/process/messages.ts';
import type { Manifest } from '../../protocol/job/manifest.ts';
import type { Figures } from '../../protocol/messages.ts';
import type { ScoreTask } from '../../verify/process/messages.ts';
import { FIGURE_RULES } from '../../verify/scores/belief.ts';
import { badIntervals, type Published, planOf } from '../../verify/scores/published.ts';

/**
 * Maximum share of its time for which a witness measures scores, in rounds that it chooses at random. With 5 % each,
 * several witnesses detect a coordinator that publishes wrong figures in every round within a few rounds.
 */
const TIME_SHARE = 0.05;
/** Number of updates of a merge whose gains are measured. Each needs a gradient on 8 to 64 rows. */
const CHOSEN_UPDATES = 2;
/** Maximum time of one measurement, in milliseconds. It is shorter than the time of a whole verification (VERIFY_MS). */
const LIMIT_MS = 10 * 60_000;

/** Rows of a round that are needed, by their positions. */
interface WantedRows {
  readonly round: number;
  readonly parent: string;
  readonly positions: readonly number[];
}

export interface ScoreTasksDeps {
  /** Returns the rows of a job. Fetches missing data shards. */
  readonly readRows: (job: string, wanted: WantedRows, signal: AbortSignal) => Promise<Row[]>;
  /**
   * Returns the settings of a trainer process for a job, or the reason why the machine cannot run a second trainer process
   * now, for example its memory limit. The process of the verification runs at the same time and needs memory too.
   */
  readonly trainerFor: (
    manifest: Manifest,
    verificationBytes: number,
  ) => Promise<TrainerOptions | { readonly obstacle: string }>;
  /** Returns a random integer from 0 to `below` − 1 that no peer can predict. */
  readonly randomInt: (below: number) => number;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Decides which scores a witness measures. A measurement costs about as much as training on a hundred rows, so the
 * witness measures only the scores of merges that are chosen at random. The measurements for all jobs of the node
 * together take at most TIME_SHARE of the time on average, however many merges a coordinator publishes.
 */
export class ScoreTasks {
  readonly #deps: ScoreTasksDeps;
  /** Duration of the newest verification with a measurement, in milliseconds; null before the first. */
  #tookMs: number | null = null;
  /** Time of the newest decision on the monotonic clock. */
  #decidedAt = 0;
  /** The newest obstacle of each job, so that the log names it once. */
  readonly #obstacles = new Map<string, string>();

  constructor(deps: ScoreTasksDeps) {
    this.#deps = deps;
  }

  /** Returns what a process needs to measure the scores of a merge; null if they are not measured. */
  async prepare(
    {
      job,
      manifest,
      figures,
      verificationBytes,
    }: { job: string; manifest: Manifest; figures: Figures; verificationBytes: number },
    signal: AbortSignal,
  ): Promise<ScoreTask | null> {
    const { seed, rules, parent, round } = figures;
    if (seed === null || rules !== FIGURE_RULES || badIntervals(figures).length > 0) return null;
    if (!this.#isDue()) return null;
    const { readRows, trainerFor, log } = this.#deps;
    try {
      const trainer = await trainerFor(manifest, verificationBytes);
      if ('obstacle' in trainer) {
        if (this.#obstacles.get(job) !== trainer.obstacle) {
          log.warn({ job, reason: trainer.obstacle }, 'witness-scores-unmeasured');
        }
        this.#obstacles.set(job, trainer.obstacle);
        return null;
      }
      this.#obstacles.delete(job);
      const { candidates, plan } = planOf({ ...figures, seed }, { rows: manifest.data.rows });
      const scored = plan.own.filter(({ candidate }) => candidates[candidate]!.update.score !== null);
      const chosen = this.#draw(scored, CHOSEN_UPDATES).map(({ candidate, positions }) => {
        const { update } = candidates[candidate]!;
        return { update, positions: positions.slice(0, update.score!.ownRows) };
      });
      const wanted = [
        { round, positions: plan.random.flat() },
        ...chosen.map(({ update, positions }) => ({ round: update.round, positions })),
      ];
      const rows: ScoreTask['rows'][number][] = [];
      for (const one of wanted) {
        rows.push({ ...one, rows: await readRows(job, { ...one, parent }, signal) });
      }
      return { trainer, rows, chosen: chosen.map(({ update }) => keyOf(update)), limitMs: LIMIT_MS };
    } catch (error) {
      signal.throwIfAborted();
      if (!isSwarmError(error)) throw error;
      // The rest of the verification does not need the rows.
      log.warn({ job, round, reason: messageOf(error) }, 'witness-scores-unmeasured');
      return null;
    }
  }

  /** Records how long a verification with a measurement took, in milliseconds. */
  note(tookMs: number): void {
    this.#tookMs = tookMs;
  }

  /** Decides at random whether to measure, so that measurements take TIME_SHARE of the time on average. */
  #isDue(): boolean {
    const now = this.#deps.clock.monotonic();
    const passed = now - this.#decidedAt;
    this.#decidedAt = now;
    if (this.#tookMs === null) return true;
    const parts = 1_000_000;
    return this.#deps.randomInt(parts) < (parts * TIME_SHARE * passed) / Math.max(1, this.#tookMs);
  }

  #draw<T>(all: readonly T[], count: number): T[] {
    const left = [...all];
    return Array.from({ length: Math.min(count, all.length) }, () => {
      return left.splice(this.#deps.randomInt(left.length), 1)[0]!;
    });
  }
}

function keyOf({ peer, round }: Published): { peer: string; round: number } {
  return { peer, round };
}
