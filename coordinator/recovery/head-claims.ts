import { isSwarmError } from '../../common/errors.ts';
import { withDeadline } from '../../common/time/deadline.ts';
import { type HeadOrder, isNewer } from '../../protocol/job/head-order.ts';
import type { Head } from '../../protocol/messages.ts';
import type { RpcResponse } from '../../protocol/requests/rpc.ts';
import type { CoordinatorDeps } from '../context.ts';
import type { JobRun } from '../job-run.ts';
import { verified } from './lost-records.ts';

/** Maximum time until a peer gives the head that it claims to have. The answer has no checkpoints, so it is small. */
const PROOF_MS = 5_000;
/** Number of times that a peer is asked for its head until it answers, because a request or an answer can be lost. */
const TRIES = 2;
/** Minimum time between two requests to one peer, because a peer can claim a later head repeatedly. */
const RETRY_MS = 10_000;
/**
 * Maximum time for which claims delay a job. Without this limit, one person could stop a job by repeatedly joining with
 * new nodes.
 */
const SETTLE_MS = 30_000;
/** Maximum number of requests at the same time for each job, so that the members of one job cannot delay other jobs. */
const REQUESTS = 64;
/** Maximum number of requests for one job at the same time to members with the same network address. */
const REQUESTS_PER_ADDRESS = 8;
/**
 * Maximum number of peers whose latest request is remembered. One person can have any number of members, so without a
 * limit these peers could fill the memory.
 */
const REMEMBERED = 8192;

/** A head that this coordinator has signed, and that a peer has sent in answer to the request `recall`. */
export interface ProvenHead {
  readonly job: string;
  readonly peer: string;
  readonly head: Head;
  /** The answer with the head. It contains no checkpoints and no receipts. */
  readonly answer: RpcResponse<'recall'>;
}

/** A running request for a head. */
interface HeadRequest {
  readonly job: string;
  readonly address: string;
  /** Whether `settled` waits for the request. */
  readonly isAwaited: boolean;
}

interface Deps extends Pick<CoordinatorDeps, 'network' | 'clock' | 'log'> {
  readonly signal: AbortSignal;
  readonly onProven: (proven: ProvenHead) => void;
}

/** Asks each peer that claims to have a later head than this coordinator to send that head. */
export class HeadClaims {
  readonly #deps: Deps;
  /** Time of the newest request to each peer, by job and peer, on the monotonic clock. */
  readonly #asked = new Map<string, number>();
  /** The running requests. */
  readonly #requests = new Map<Promise<void>, HeadRequest>();
  /** For each job: the members to ask as soon as the limits of requests allow it. */
  readonly #waiting = new Map<string, Set<string>>();

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** Asks a peer for the head that it claims to have, if that head is later than the coordinator's newest head. */
  note(run: JobRun, peer: string, known: HeadOrder | null): void {
    const { clock, log, signal } = this.#deps;
    const { job } = run.context;
    const own = run.record.heads.newest.head;
    if (known === null || !isNewer(known, own) || signal.aborted) return;
    const key = `${job} ${peer}`;
    const last = this.#asked.get(key);
    const isMember = run.members.list.has(peer);
    if (last !== undefined && clock.monotonic() - last < RETRY_MS) return;
    // A peer that is not a member is asked only while no other request is running. Otherwise, such peers
    // could use up all requests.
    if (!isMember && this.#requests.size > 0) return;
    const isFirst = isMember && last === undefined;
    if (isMember && !this.#mayAsk(job, peer)) {
      // Only the first claim of a member waits for a place, because a member repeats its claim.
      if (isFirst) this.#wait(job, peer);
      return;
    }
    log.warn({ job, peer, known, own: { term: own.term, sequence: own.sequence } }, 'later-head-claimed');
    // A member that was already asked must not delay the job again.
    this.#start(job, peer, isFirst);
  }

  /**
   * Asks all connected members for their newest heads, except those that were asked lately. A member with a later head may
   * not have claimed it, for example because its request was lost. Members above the limits of requests are asked later.
   */
  askConnected({ context: { job }, members }: JobRun): void {
    const { network, clock } = this.#deps;
    for (const { peer } of network.peers()) {
      const last = this.#asked.get(`${job} ${peer}`) ?? Number.NEGATIVE_INFINITY;
      if (!members.list.has(peer) || clock.monotonic() - last < RETRY_MS) continue;
      if (this.#mayAsk(job, peer)) this.#start(job, peer, true);
      else this.#wait(job, peer);
    }
  }

  /** Returns whether the limits allow a further request to a member. */
  #mayAsk(job: string, peer: string): boolean {
    const running = [...this.#requests.values()].filter((request) => request.job === job);
    const address = this.#deps.network.networkOf(peer);
    const atAddress = running.filter((request) => request.address === address).length;
    return running.length < REQUESTS && atAddress < REQUESTS_PER_ADDRESS;
  }

  #wait(job: string, peer: string): void {
    const waiting = this.#waiting.get(job) ?? new Set();
    this.#waiting.set(job, waiting);
    if (waiting.size < REMEMBERED) waiting.add(peer);
  }

  /** Asks the waiting member that came first. Skips members that the limits do not allow to ask now. */
  #askWaiting(job: string): void {
    const waiting = this.#waiting.get(job);
    const next = [...(waiting ?? [])].find((peer) => this.#mayAsk(job, peer));
    if (next === undefined) return;
    waiting?.delete(next);
    this.#start(job, next, true);
  }

  #start(job: string, peer: string, isAwaited: boolean): void {
    const { network, clock, log, signal } = this.#deps;
    if (signal.aborted) return;
    this.#waiting.get(job)?.delete(peer);
    this.#remember(`${job} ${peer}`, clock.monotonic());
    const request: Promise<void> = this.#ask(job, peer, TRIES)
      .catch((error: unknown) => {
        if (!signal.aborted) log.info({ job, peer, error }, 'no-later-head-proven');
      })
      .finally(() => {
        this.#requests.delete(request);
        this.#askWaiting(job);
      });
    this.#requests.set(request, { job, address: network.networkOf(peer), isAwaited });
  }

  /**
   * Waits until the running requests to members of the job have ended. After SETTLE_MS, it waits only for the requests
   * that it is waiting for already. It never waits for a request that repeats an earlier one because of a new claim.
   */
  async settled(job: string): Promise<void> {
    const { clock } = this.#deps;
    const first = (): Promise<void>[] =>
      [...this.#requests].flatMap(([request, of]) => (of.job === job && of.isAwaited ? [request] : []));
    const until = clock.monotonic() + SETTLE_MS;
    for (let all = first(); all.length > 0 && clock.monotonic() < until; all = first())
      await Promise.all(all);
  }

  /** Resolves when no request is running. */
  async idle(): Promise<void> {
    await Promise.all(this.#requests.keys());
  }

  async #ask(job: string, peer: string, tries: number): Promise<void> {
    const { network, clock, signal, log, onProven } = this.#deps;
    const limits = { clock, ms: PROOF_MS, signal, what: 'the request "recall"' };
    // No round has a higher number, so the answer contains the head, but no checkpoints and no receipts.
    const after = Number.MAX_SAFE_INTEGER;
    let answer: RpcResponse<'recall'>;
    try {
      answer = await withDeadline(limits, (inner) =>
        network.request(peer, 'recall', { job, after }, { signal: inner }),
      );
    } catch (error) {
      if (tries > 1 && !signal.aborted && isSwarmError(error, 'DEADLINE_EXCEEDED')) {
        return this.#ask(job, peer, tries - 1);
      }
      throw error;
    }
    const found = answer.head && verified('head', answer.head);
    if (found?.author === network.signer.peerId && found.message.job === job) {
      onProven({ job, peer, head: found.message, answer });
    } else log.info({ job, peer }, 'no-later-head-proven');
  }

  #remember(key: string, at: number): void {
    this.#asked.delete(key);
    this.#asked.set(key, at);
    if (this.#asked.size > REMEMBERED) this.#asked.delete(this.#asked.keys().next().value!);
  }
}
