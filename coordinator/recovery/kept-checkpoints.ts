import pLimit from 'p-limit';
import { withDeadline } from '../../common/time/deadline.ts';
import { encodeCbor } from '../../protocol/cbor.ts';
import { callTimeoutMs } from '../../protocol/requests/rpc.ts';
import type { CoordinatorDeps } from '../context.ts';
import type { JobRun } from '../job-run.ts';
import type { Gap } from '../store/gaps.ts';
import { addPart, findPart } from './gap-part.ts';
import { type LostCheckpoint, verified } from './lost-records.ts';

/** Maximum number of members of a job that are asked at the same time. Each has another network address. */
const REQUESTS = 8;
/** Minimum time between two requests to a member that has not answered. */
const RETRY_MS = 60_000;
/** Maximum number of members that are asked, and of members that wait, for each job. The limit bounds the memory. */
const REMEMBERED = 8192;

type Deps = Pick<CoordinatorDeps, 'network' | 'store' | 'clock' | 'log'>;

/** The missing checkpoints of a job, and the requests for them. */
interface Search {
  gaps: readonly Gap[];
  /** Members that are asked as soon as the limits allow it. */
  readonly waiting: Set<string>;
  /** Time until which each member need not be asked again, on the monotonic clock. */
  readonly until: Map<string, number>;
  /** The addresses of the members that are being asked. */
  readonly asking: Set<string>;
  /** Records the checkpoints of one answer at a time. */
  readonly lock: ReturnType<typeof pLimit>;
}

/**
 * Asks members for checkpoints that are still missing after the coordinator has caught up, and adds them to the database.
 * The nodes that connected first may have lacked these checkpoints. Each member is asked once, and again after a checkpoint
 * was added, because it may have the one before.
 */
export class KeptCheckpoints {
  readonly #deps: Deps;
  readonly #searches = new WeakMap<JobRun, Search>();
  readonly #requests = new Set<Promise<void>>();

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** Asks a connected member for its checkpoints, if some are missing and it has not answered yet. Does not wait. */
  note(run: JobRun, peer: string): void {
    const { stored, isBehind } = run.context;
    // A recovery raises the term, so nothing is missing in term 1.
    if (stored.term === 1 || isBehind() || !run.members.list.has(peer)) return;
    const search = this.#searchOf(run);
    if (search.gaps.length === 0) return;
    this.#wait(search, peer);
    this.#askWaiting(run, search);
  }

  /** Resolves when no request is running. */
  async idle(): Promise<void> {
    await Promise.all(this.#requests);
  }

  #searchOf(run: JobRun): Search {
    const known = this.#searches.get(run);
    if (known !== undefined) return known;
    const gaps = this.#deps.store.gaps.of(run.context.job);
    const search = {
      gaps,
      waiting: new Set<string>(),
      until: new Map(),
      asking: new Set<string>(),
      lock: pLimit(1),
    };
    this.#searches.set(run, search);
    return search;
  }

  #wait({ waiting, until }: Search, peer: string): void {
    if (this.#deps.clock.monotonic() < (until.get(peer) ?? 0)) return;
    if (waiting.size < REMEMBERED && (until.has(peer) || until.size < REMEMBERED)) waiting.add(peer);
  }

  /** Asks the members that wait, as far as the limits allow it. */
  #askWaiting(run: JobRun, search: Search): void {
    const { network, clock, log } = this.#deps;
    const { job, signal } = run.context;
    const { gaps, waiting, until, asking } = search;
    for (const peer of waiting) {
      if (signal.aborted || gaps.length === 0 || asking.size >= REQUESTS) return;
      const address = network.networkOf(peer);
      if (asking.has(address)) continue;
      waiting.delete(peer);
      asking.add(address);
      until.set(peer, clock.monotonic() + RETRY_MS);
      const request = this.#ask(run, search, peer)
        .catch((error: unknown) => log.debug({ job, peer, error }, 'checkpoints-not-recalled'))
        .finally(() => {
          asking.delete(address);
          this.#requests.delete(request);
          this.#askWaiting(run, search);
        });
      this.#requests.add(request);
    }
  }

  async #ask(run: JobRun, search: Search, peer: string): Promise<void> {
    const { network, clock } = this.#deps;
    const { job, signal } = run.context;
    const limits = { clock, ms: callTimeoutMs('recall'), signal, what: 'the request "recall"' };
    // Checkpoints can also be missing before the gap, because the database may have other checkpoints of these rounds.
    const { checkpoints } = await withDeadline(limits, (inner) =>
      network.request(peer, 'recall', { job, after: 0 }, { signal: inner }),
    );
    search.until.set(peer, Number.POSITIVE_INFINITY);
    await search.lock(() => this.#add(run, search, checkpoints));
  }

  /** Adds those checkpoints of an answer that continue a chain at a gap. */
  async #add(run: JobRun, search: Search, envelopes: readonly Uint8Array[]): Promise<void> {
    const { network, store, log } = this.#deps;
    const { context, contributions, driver, members } = run;
    const { job, signal, collector } = context;
    const own = envelopes
      .map((envelope) => ({ envelope, found: verified('checkpoint', envelope) }))
      .flatMap(({ envelope, found }): LostCheckpoint[] => {
        if (found?.author !== network.signer.peerId || found.message.job !== job) return [];
        const { digest, message: checkpoint } = found;
        return [{ round: checkpoint.round, digest, envelope, checkpoint }];
      });
    let added = 0;
    for (const gap of search.gaps) {
      if (signal.aborted) return;
      const found = findPart(gap, own, context);
      if (found.checkpoints.length === 0) continue;
      await collector.withScope(async (scope) => {
        for (const { checkpoint, digest } of found.checkpoints)
          await scope.put(encodeCbor(checkpoint), digest);
        driver.transact(() => addPart(gap, found, context));
        contributions.forget();
      });
      added += found.checkpoints.length;
    }
    if (added === 0) return;
    search.gaps = store.gaps.of(job);
    log.warn({ job, checkpoints: added, gaps: search.gaps.length }, 'lost-checkpoints-restored');
    search.until.clear();
    for (const { peer } of network.peers()) if (members.list.has(peer)) this.#wait(search, peer);
  }
}
