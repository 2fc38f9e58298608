import { withDeadline } from '../../common/deadline.ts';
import { isSwarmError } from '../../common/errors.ts';
import { type HeadOrder, isNewer } from '../../protocol/head-order.ts';
import type { Head } from '../../protocol/messages.ts';
import type { RpcResponse } from '../../protocol/rpc.ts';
import type { CoordinatorDeps } from '../context.ts';
import type { JobRun } from '../job-run.ts';
import { verified } from './lost-records.ts';

/** Maximum time until a peer gives the head that it claims to have. The answer has no checkpoints, so it is small. */
const PROOF_MS = 5_000;
/** Number of times that a peer is asked for its head until it answers, because a request or an answer can be lost. */
const TRIES = 2;
/** Minimum time between two requests to one peer, because a peer can claim a later head again and again. */
const RETRY_MS = 10_000;
/** Maximum time for which claims delay a job. Without this limit, one person with ever new members could stop a job. */
const SETTLE_MS = 30_000;
/** Maximum number of requests at the same time, over all jobs. */
const REQUESTS = 64;
/** Maximum number of remembered peers. The limit bounds the memory, because one person can have any number of members. */
const REMEMBERED = 8192;

/** A head that this coordinator has signed, and that a peer has sent in answer to the request `recall`. */
export interface ProvenHead {
  readonly job: string;
  readonly peer: string;
  readonly head: Head;
  /** The answer with the head. It contains no checkpoints and no receipts. */
  readonly answer: RpcResponse<'recall'>;
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
  /** The running requests. The value is the job of the request if `settled` waits for it; otherwise null. */
  readonly #requests = new Map<Promise<void>, string | null>();

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
    const isMember = run.members.has(peer);
    // A peer that is not a member is asked only while no other request is running. Otherwise, such peers
    // could use up all requests.
    if (
      (last !== undefined && clock.monotonic() - last < RETRY_MS) ||
      this.#requests.size >= (isMember ? REQUESTS : 1)
    )
      return;
    log.warn({ job, peer, known, own: { term: own.term, sequence: own.sequence } }, 'later-head-claimed');
    // A member that was already asked must not delay the job again.
    this.#start(job, peer, isMember && last === undefined ? job : null);
  }

  /**
   * Asks all connected members for their newest heads, except those that were asked lately. A member with a later head may
   * not have claimed it, for example because its request was lost.
   */
  askConnected({ context: { job }, members }: JobRun): void {
    const { network, clock } = this.#deps;
    for (const { peer } of network.peers()) {
      const last = this.#asked.get(`${job} ${peer}`) ?? Number.NEGATIVE_INFINITY;
      if (this.#requests.size >= REQUESTS) return;
      if (members.has(peer) && clock.monotonic() - last >= RETRY_MS) this.#start(job, peer, job);
    }
  }

  #start(job: string, peer: string, awaitedBy: string | null): void {
    const { clock, log, signal } = this.#deps;
    if (signal.aborted) return;
    this.#remember(`${job} ${peer}`, clock.monotonic());
    const request: Promise<void> = this.#ask(job, peer, TRIES)
      .catch((error: unknown) => {
        if (!signal.aborted) log.info({ job, peer, error }, 'no-later-head-proven');
      })
      .finally(() => this.#requests.delete(request));
    this.#requests.set(request, awaitedBy);
  }

  /**
   * Waits until the running requests to members of the job have ended, but starts no further wait after SETTLE_MS. Does
   * not wait for a request that a claim caused if the member had been asked before.
   */
  async settled(job: string): Promise<void> {
    const { clock } = this.#deps;
    const first = (): Promise<void>[] =>
      [...this.#requests].flatMap(([request, of]) => (of === job ? [request] : []));
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
