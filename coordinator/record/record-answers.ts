import { PROOFS_PER_ANSWER } from '../../protocol/limits.ts';
import type { Checkpoint } from '../../protocol/messages.ts';
import type { RpcResponse } from '../../protocol/requests/rpc.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { UpdateProof } from '../../verify/record.ts';
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
 * Time for which a page is kept, in milliseconds. After that, the page is read again, because the receipt of
 * an update can have changed.
 */
const PAGE_MS = 10_000;
/** Maximum number of decoded checkpoints in memory. One with 512 contributors takes about 150 KiB. */
const CHECKPOINTS = 32;

interface Page {
  readonly proofs: (UpdateProof | null)[];
  readonly until: number;
}

/**
 * Answers the request `record`. Remembers the newest pages and decoded checkpoints, because the callers read a
 * checkpoint page by page, and many callers read the same checkpoint.
 */
export class RecordAnswers {
  readonly #clock: Pick<CoordinatorDeps['clock'], 'monotonic'>;
  readonly #contributors = new Map<string, Checkpoint['contributors']>();
  readonly #pages = new Map<string, Page>();

  constructor(deps: Pick<CoordinatorDeps, 'clock'>) {
    this.#clock = deps.clock;
  }

  /**
   * @param place `first`: number of contributors before the first one in the answer
   * @param beforeWork called before a page is read and signed, which takes up to 11 ms. It is not called for a page in
   *   memory. It gets a function `isNeeded`, which returns false as soon as another caller has read the page. If
   *   `beforeWork` rejects, `answer` rejects with the same error
   */
  async answer(
    run: JobRun,
    { ordinal, first }: { ordinal: number; first: number },
    beforeWork: (isNeeded: () => boolean) => Promise<void>,
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
    beforeWork: (isNeeded: () => boolean) => Promise<void>,
  ): Promise<(UpdateProof | null)[]> {
    const key = `${digest} ${first}`;
    if (!this.#known(key)) await beforeWork(() => !this.#known(key));
    const known = this.#known(key);
    if (known) return known;
    let contributors = this.#contributors.get(digest);
    if (contributors === undefined) {
      contributors = verifyMessage('checkpoint', envelope).message.contributors;
      remember(this.#contributors, digest, contributors, CHECKPOINTS);
    }
    const proofs = proofsOf(contributors.slice(first, first + PROOFS_PER_ANSWER), run);
    remember(this.#pages, key, { proofs, until: this.#clock.monotonic() + PAGE_MS }, PAGES);
    return proofs;
  }

  #known(key: string): (UpdateProof | null)[] | null {
    const page = this.#pages.get(key);
    return page !== undefined && page.until > this.#clock.monotonic() ? page.proofs : null;
  }
}

/** Sets a value. Forgets the oldest value if there are more than `most`. */
function remember<T>(values: Map<string, T>, key: string, value: T, most: number): void {
  values.delete(key);
  values.set(key, value);
  const [oldest] = values.keys();
  if (values.size > most) values.delete(oldest!);
}
