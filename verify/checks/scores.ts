import { isSwarmError } from '../../common/errors.ts';
import { decodeAdapter } from '../../lora/adapter/codec.ts';
import { updateError } from '../../lora/update/errors.ts';
import { decodeUpdate, type SparseUpdate, type UpdateLayout } from '../../lora/update/index.ts';
import { type LossGradient, withUpdate } from '../../lora/update/score.ts';
import { UPDATE_BYTES } from '../../protocol/limits.ts';
import type { Checkpoint, Figures } from '../../protocol/messages.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { Findings } from '../findings.ts';
import type { JobFacts, SignedCheckpoint } from '../job-facts.ts';
import { readBlob } from '../read-blob.ts';
import type { CheckpointRecord } from '../record.ts';
import { FIGURE_RULES } from '../scores/belief.ts';
import { checkHistory } from '../scores/history.ts';
import { checkJudgement } from '../scores/judgement.ts';
import { type Measured, measureScores } from '../scores/measure.ts';
import type { Published, ScoreMismatch } from '../scores/published.ts';
import type { MeasuredJob } from './losses.ts';
import type { Recomputation } from './recompute.ts';

/** Maximum number of merges whose figures are kept. The earlier shares of a peer that was away for longer are not checked. */
const KEPT_FIGURES = 32;

/** Rows of a job, named by their positions in the shuffled data of a round that started from the checkpoint `parent`. */
export interface RowsOfRound {
  readonly round: number;
  readonly parent: string;
  readonly positions: readonly number[];
}

/** Computes the gradients and losses from which scores are made, on a machine that has the base and the data of a job. */
export interface ScoreMeter {
  /** Returns whether the gain and the exact effect of an update are measured. @default they are measured for all updates */
  isChosen?(update: Published): boolean;
  /** Returns the gradient of the mean loss over rows at an adapter, in nats per token. */
  gradient(
    job: MeasuredJob,
    adapter: readonly Float32Array[],
    rows: RowsOfRound,
    options: { signal: AbortSignal },
  ): Promise<LossGradient>;
  /** Returns the mean loss of an adapter over rows, in nats per token. */
  loss(
    job: MeasuredJob,
    adapter: readonly Float32Array[],
    rows: RowsOfRound,
    options: { signal: AbortSignal },
  ): Promise<number>;
}

/** A payload that the source does not have. */
class Missing extends Error {}

/** Codes of a meter's error if the adapter does not have the tensors of the job. */
const WRONG_ADAPTER: readonly string[] = ['ADAPTER_SHAPE', 'ADAPTER_TENSORS', 'ADAPTER_NOT_FINITE'];

/** Checks published scores: the arithmetic, and also the measurements if there is a meter. */
export class ScoreChecks {
  readonly #facts: JobFacts;
  readonly #meter: ScoreMeter | null;
  /** Figures of the newest merges, by round. */
  readonly #known = new Map<number, Figures>();

  constructor(facts: JobFacts, meter: ScoreMeter | null) {
    this.#facts = facts;
    this.#meter = meter;
  }

  /** Keeps figures that are not checked, for the history of later merges. Ignores figures that are not valid. */
  remember({ figures, nullFigures = [] }: CheckpointRecord): void {
    for (const envelope of [...nullFigures, ...(figures === null ? [] : [figures])]) {
      const verified = this.#verified(envelope);
      if (verified !== null) this.#keep(verified);
    }
  }

  /** Checks the shares of the null rounds between a checkpoint and its parent. Later beliefs depend on them. */
  checkNullRounds(
    nullFigures: readonly Uint8Array[],
    { round, parent }: Checkpoint,
    findings: Findings,
  ): void {
    for (const envelope of nullFigures) {
      const figures = this.#verified(envelope);
      if (figures === null || figures.parent !== parent || figures.round >= round) {
        findings.problem('VERIFY_SOURCE', 'the scores of a null round do not fit between the checkpoints');
        continue;
      }
      this.#checkShares(figures, findings);
      this.#keep(figures);
    }
  }

  /** Returns the figures if the coordinator has signed them for this job; otherwise null. */
  #verified(envelope: Uint8Array): Figures | null {
    const { job, coordinator } = this.#facts;
    try {
      const { author, message } = verifyMessage('figures', envelope);
      return author === coordinator && message.job === job ? message : null;
    } catch (error) {
      if (!isSwarmError(error)) throw error;
      return null;
    }
  }

  /** Checks the verified figures of a merge. */
  async check(
    figures: Figures,
    parent: SignedCheckpoint,
    adapters: Pick<Recomputation, 'adapterOf' | 'layoutOf'>,
    findings: Findings,
  ): Promise<void> {
    this.#checkShares(figures, findings);
    this.#keep(figures);
    await this.#measure(figures, parent, adapters, findings);
  }

  /** Keeps figures for the history of later merges. Ignores figures whose shares cannot be checked. */
  #keep(figures: Figures): void {
    if (!isCheckable(figures)) return;
    this.#known.set(figures.round, figures);
    const [oldest] = this.#known.keys();
    if (this.#known.size > KEPT_FIGURES) this.#known.delete(oldest!);
  }

  /** Checks that shares and beliefs follow from the figures of this merge and of earlier merges. */
  #checkShares(figures: Figures, findings: Findings): void {
    const { rules } = figures;
    if (!isCheckable(figures)) {
      if (rules === FIGURE_RULES) {
        findings.done('shares');
        const text = `the scores of round ${figures.round} have no seed, so the rows on which they were measured are unknown`;
        findings.problem('VERIFY_FIGURES', text, { scored: figures.round });
        return;
      }
      const reason =
        rules === undefined
          ? 'an older version of the coordinator computed the scores'
          : `the scores follow version ${rules} of the rules, and this version of lora-swarm knows version ${FIGURE_RULES}`;
      findings.skip('shares', reason);
      return;
    }
    findings.done('shares');
    for (const mismatch of this.#judgement(figures, findings)) {
      const { peer, round, figure, published, computed } = mismatch;
      const text = `the published ${nameOf(figure)} of ${updateOf(mismatch)} in the scores of round ${figures.round} is ${published}, but the other published figures give ${computed}`;
      findings.problem('VERIFY_FIGURES', text, { peer, made: round, figure, published, computed });
    }
    const { mismatches, unsorted, withoutAudit, isComplete } = checkHistory(figures, this.#known);
    for (const peer of unsorted) {
      const text = `the earlier shares of ${peer} in the scores of round ${figures.round} are repeated or not sorted from new to old`;
      findings.problem('VERIFY_FIGURES', text, { peer, scored: figures.round });
    }
    for (const { peer, merge, round, used, published } of mismatches) {
      // Figures of different terms prove nothing, because a coordinator that was restored from a backup may
      // score a round again.
      const isSameTerm = this.#known.get(merge)?.term === figures.term;
      const text = `the scores use the share ${used} for the update of ${peer} in the merge of round ${merge}, but the scores of that merge have the share ${published}`;
      const values = { peer, made: round, merge, used, published };
      findings.problem(isSameTerm ? 'VERIFY_FIGURES' : 'VERIFY_SOURCE', text, values);
    }
    if (!isComplete) {
      findings.skip(
        'shares',
        'some earlier shares: the record does not have the scores of their merges, or these scores cannot be checked',
      );
    }
    for (const peer of withoutAudit) {
      const reason = `an earlier share of ${peer}: it counts as 0 because of a failed audit, but the scores of its merge have no audit of the update`;
      findings.skip('shares', reason);
    }
  }

  /** Computes shares and beliefs again. Reports figures for which no plan of rows can be made. */
  #judgement(figures: Figures, findings: Findings): readonly ScoreMismatch[] {
    try {
      return checkJudgement(figures, { rows: this.#facts.manifest.data.rows });
    } catch (error) {
      if (!isSwarmError(error)) throw error;
      const text = `the shares of round ${figures.round} cannot be computed: ${error.message}`;
      findings.problem('VERIFY_SOURCE', text, { scored: figures.round });
      return [];
    }
  }

  /** Measures effects and gains again, if there is a meter. */
  async #measure(
    figures: Figures,
    { digest, checkpoint }: SignedCheckpoint,
    adapters: Pick<Recomputation, 'adapterOf' | 'layoutOf'>,
    findings: Findings,
  ): Promise<void> {
    const meter = this.#meter;
    const skip = (reason: string): void => findings.skip('scores', reason);
    if (meter === null) return skip('effects and gains: the check needs the base and the data of the job');
    if (!isCheckable(figures)) return skip('the version of the rules differs, or the scores have no seed');
    const adapter = await adapters.adapterOf(checkpoint, findings);
    if (adapter === null) return skip('the source does not have the adapter of the parent');
    let measured: Measured;
    try {
      const reader = this.#reader(meter, { digest, adapter, layout: adapters.layoutOf(adapter) }, findings);
      const { rows } = this.#facts.manifest.data;
      const isChosen = meter.isChosen?.bind(meter);
      measured = await measureScores(figures, reader, { rows, ...(isChosen && { isChosen }) });
    } catch (error) {
      this.#facts.signal.throwIfAborted();
      if (error instanceof Missing) {
        return skip(
          'the source does not have the payload of a scored update; a coordinator keeps payloads for 8 rounds',
        );
      }
      if (isSwarmError(error, 'SCORES_UNMEASURED')) return skip(error.message);
      if (!isSwarmError(error) || !(WRONG_ADAPTER.includes(error.code) || error.code in updateError.table))
        throw error;
      return findings.problem('VERIFY_SOURCE', `the scores cannot be measured: ${error.message}`);
    }
    findings.done('scores');
    const { effects, gains, difference } = measured;
    findings.scores = { effects, gains, difference };
    if (gains < figures.updates.filter(({ score }) => score !== null).length) {
      skip(`gains: this machine measured ${gains}, chosen at random`);
    }
    for (const mismatch of measured.mismatches) {
      const { peer, round, figure, published, computed } = mismatch;
      const text = `the published ${nameOf(figure)} of ${updateOf(mismatch)} is ${published}, but this machine measures ${computed}`;
      findings.problem('VERIFY_SCORES', text, { peer, made: round, figure, published, measured: computed });
    }
  }

  #reader(
    meter: ScoreMeter,
    { digest: parent, adapter, layout }: { digest: string; adapter: Uint8Array; layout: UpdateLayout },
    findings: Findings,
  ) {
    const { job, manifest, signal } = this.#facts;
    const tensors = decodeAdapter(adapter, layout);
    const measuredJob = { job, manifest };
    return {
      load: async ({ update: digest, size, preset }: Published): Promise<SparseUpdate> => {
        const wanted = { digest, size: size ?? null, maxBytes: UPDATE_BYTES };
        const bytes = await readBlob(this.#facts, wanted, findings);
        if (bytes === null) throw new Missing(digest);
        return decodeUpdate(bytes, layout, preset);
      },
      gradient: (positions: readonly number[], round: number) =>
        meter.gradient(measuredJob, tensors, { round, parent, positions }, { signal }),
      loss: (
        sent: { update: SparseUpdate; scale: Float32Array } | null,
        positions: readonly number[],
        round: number,
      ) => {
        const changed = sent === null ? tensors : withUpdate(tensors, sent.update, sent.scale);
        return meter.loss(measuredJob, changed, { round, parent, positions }, { signal });
      },
    };
  }
}

/** Returns whether the shares of figures can be computed again. */
function isCheckable({ rules, seed }: Figures): boolean {
  return rules === FIGURE_RULES && seed !== null;
}

const NAMES: Readonly<Partial<Record<ScoreMismatch['figure'], string>>> = {
  effectError: 'standard error of the effect',
  exact: 'exact effect',
  harmful: 'verdict on harm (1: harmful)',
  interval: 'first row',
  late: 'effect',
  ownRows: 'number of scored rows',
};

function nameOf(figure: ScoreMismatch['figure']): string {
  return NAMES[figure] ?? figure;
}

function updateOf({ peer, round }: ScoreMismatch): string {
  return `the update of ${peer} for round ${round}`;
}
