import { PROOFS_PER_ANSWER } from '../../protocol/limits.ts';
import type { Checkpoint } from '../../protocol/messages.ts';
import type { RpcResponse } from '../../protocol/requests/rpc.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { UpdateProof } from '../../verify/record.ts';
import { signedFigures } from '../audits/figures.ts';
import type { CoordinatorDeps } from '../context.ts';
import type { JobRun } from '../job-run.ts';
import { proofsOf } from './job-record.ts';

/**
 * Maximum number of pages in memory. A page holds the proofs of 64 contributors of a checkpoint. It takes
 * about 100 KiB, and at most 320 KiB. A checkpoint with 512 contributors has 8 pages. When a checkpoint is
 * published, all witnesses ask for its pages.
 */
const PAGES = 32;
/**
 * Time for which a page or figures are kept, in milliseconds. After that, they are read again, because the receipt or the
 * audit of an update can have changed.
 */
const KEPT_MS = 10_000;
/** Maximum number of signed figures in memory. Each takes at most 384 KiB. */
const FIGURES = 8;
/** Maximum number of decoded checkpoints in memory. One with 512 contributors takes about 150 KiB. */
const CHECKPOINTS = 32;

/** An answer in memory. */
interface Kept<T> {
  readonly answer: T;
  readonly until: number;
}

/**
 * Function that is called before an answer is computed that is not in memory. It gets a function that returns false as
 * soon as another caller has made the coordinator compute the answer. If it rejects, the answer rejects with the same
 * error.
 */
type BeforeWork = (isNeeded: () => boolean) => Promise<void>;

/**
 * Answers the requests `record` and `figures`. Remembers the newest pages, figures and decoded checkpoints, because the
 * callers read a checkpoint page by page, and many callers read the same checkpoint.
 */
export class RecordAnswers {
  readonly #clock: Pick<CoordinatorDeps['clock'], 'monotonic'>;
  readonly #contributors = new Map<string, Checkpoint['contributors']>();
  readonly #pages = new Map<string, Kept<(UpdateProof | null)[]>>();
  readonly #figures = new Map<string, Kept<Uint8Array | null>>();

  constructor(deps: Pick<CoordinatorDeps, 'clock'>) {
    this.#clock = deps.clock;
  }

  /**
   * @param place `first`: number of contributors before the first one in the answer
   * @param beforeWork called before a page is read and signed, which takes up to 11 ms
   */
  async answer(
    run: JobRun,
    { ordinal, first }: { ordinal: number; first: number },
    beforeWork: BeforeWork,
  ): Promise<RpcResponse<'record'>> {
    const { job, deps } = run.context;
    const stored = deps.store.rounds.checkpointAt(job, ordinal);
    if (stored === null) return { checkpoint: null, residual: null, proofs: [] };
    const { digest, envelope, residual } = stored;
    const size = residual && (await deps.blobs.size(residual));
    return {
      checkpoint: envelope,
      residual: size ? { digest: residual, size } : null,
      proofs: await this.#page(run, { digest, envelope, first }, beforeWork),
    };
  }

  async #page(
    run: JobRun,
    { digest, envelope, first }: { digest: string; envelope: Uint8Array; first: number },
    beforeWork: BeforeWork,
  ): Promise<(UpdateProof | null)[]> {
    return this.#kept(this.#pages, { key: `${digest} ${first}`, most: PAGES }, beforeWork, () => {
      let contributors = this.#contributors.get(digest);
      if (contributors === undefined) {
        contributors = verifyMessage('checkpoint', envelope).message.contributors;
        remember(this.#contributors, digest, contributors, CHECKPOINTS);
      }
      return proofsOf(contributors.slice(first, first + PROOFS_PER_ANSWER), run);
    });
  }

  /**
   * Returns the signed figures of a round; null if the updates of the round were not scored.
   * @param beforeWork called before figures are read and signed, which takes up to 25 ms
   */
  async figures({ context }: JobRun, round: number, beforeWork: BeforeWork): Promise<Uint8Array | null> {
    // This lookup takes microseconds, so a round without scores costs the caller no quota.
    if (!context.deps.store.scores.has(context.job, round)) return null;
    const place = { key: `${context.job} ${round}`, most: FIGURES };
    return this.#kept(this.#figures, place, beforeWork, () => signedFigures(round, context));
  }

  /** Returns an answer that is in memory, or computes it and keeps it in memory for a while, unless it is null. */
  async #kept<T>(
    answers: Map<string, Kept<T>>,
    { key, most }: { key: string; most: number },
    beforeWork: BeforeWork,
    compute: () => T,
  ): Promise<T> {
    const known = (): Kept<T> | undefined => {
      const kept = answers.get(key);
      return kept !== undefined && kept.until > this.#clock.monotonic() ? kept : undefined;
    };
    if (known() === undefined) await beforeWork(() => known() === undefined);
    const kept = known();
    if (kept !== undefined) return kept.answer;
    const answer = compute();
    if (answer !== null) remember(answers, key, { answer, until: this.#clock.monotonic() + KEPT_MS }, most);
    return answer;
  }
}

/** Sets a value. Forgets the oldest value if there are more than `most`. */
function remember<T>(values: Map<string, T>, key: string, value: T, most: number): void {
  values.delete(key);
  values.set(key, value);
  const [oldest] = values.keys();
  if (values.size > most) values.delete(oldest!);
}
