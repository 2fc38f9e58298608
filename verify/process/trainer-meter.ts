import { messageOf } from '../../common/errors.ts';
import type { Row } from '../../lora/data/row.ts';
import { TrainerProcess } from '../../lora/train/process/supervisor.ts';
import type { LossGradient } from '../../lora/update/score.ts';
import type { MeasuredJob } from '../checks/losses.ts';
import type { RowsOfRound, ScoreMeter } from '../checks/scores.ts';
import { verifyError } from '../errors.ts';
import type { Published } from '../scores/published.ts';
import type { ScoreTask } from './messages.ts';

/**
 * Measures scores with rows that the caller has read, in a separate trainer process. The process starts with the first
 * gradient, and inherits the priority of this process.
 */
export class TrainerMeter implements ScoreMeter {
  readonly #task: ScoreTask;
  readonly #rows = new Map<string, Row>();
  readonly #limit: AbortSignal;
  #trainer: Promise<TrainerProcess> | null = null;

  constructor(task: ScoreTask) {
    this.#task = task;
    this.#limit = AbortSignal.timeout(task.limitMs);
    for (const { round, positions, rows } of task.rows) {
      for (const [i, position] of positions.entries()) this.#rows.set(`${round} ${position}`, rows[i]!);
    }
  }

  isChosen({ peer, round }: Published): boolean {
    return this.#task.chosen.some((one) => one.peer === peer && one.round === round);
  }

  async gradient(
    _job: MeasuredJob,
    adapter: readonly Float32Array[],
    wanted: RowsOfRound,
    { signal }: { signal: AbortSignal },
  ): Promise<LossGradient> {
    const rows = this.#read(wanted);
    return this.#compute(signal, (trainer, inner) => trainer.lossGradient({ adapter, rows, signal: inner }));
  }

  async loss(
    _job: MeasuredJob,
    adapter: readonly Float32Array[],
    wanted: RowsOfRound,
    { signal }: { signal: AbortSignal },
  ): Promise<number> {
    const rows = this.#read(wanted);
    const losses = await this.#compute(signal, (trainer, inner) =>
      trainer.evaluate({ adapter, rows, signal: inner }),
    );
    const tokens = losses.reduce((sum, row) => sum + row.tokens, 0);
    return tokens === 0 ? 0 : losses.reduce((sum, row) => sum + row.lossSum, 0) / tokens;
  }

  /** Ends the trainer process. */
  async close(): Promise<void> {
    // A process that failed to start needs no stop.
    const trainer = await this.#trainer?.catch(() => null);
    await trainer?.kill();
  }

  /** @throws SwarmError SCORES_UNMEASURED if the computation fails or takes too long; the signal's reason */
  async #compute<T>(
    signal: AbortSignal,
    work: (trainer: TrainerProcess, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const inner = AbortSignal.any([signal, this.#limit]);
    try {
      this.#trainer ??= TrainerProcess.start(this.#task.trainer, { signal: inner });
      return await work(await this.#trainer, inner);
    } catch (error) {
      signal.throwIfAborted();
      const { limitMs } = this.#task;
      const reason = this.#limit.aborted
        ? `the measurement did not end in ${limitMs / 1000} s`
        : `the measurement failed: ${messageOf(error)}`;
      throw verifyError('SCORES_UNMEASURED', reason, { limitMs }, { cause: error });
    }
  }

  /** @throws SwarmError SCORES_UNMEASURED if the caller has not read a row */
  #read({ round, positions }: RowsOfRound): Row[] {
    return positions.map((position) => {
      const row = this.#rows.get(`${round} ${position}`);
      if (row !== undefined) return row;
      const text = `the row at position ${position} of round ${round} was not read`;
      throw verifyError('SCORES_UNMEASURED', text, { round, position });
    });
  }
}
