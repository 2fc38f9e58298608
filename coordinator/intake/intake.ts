import type { Clock } from '../../common/clock.ts';
import { withDeadline } from '../../common/deadline.ts';
import { isSwarmError, type SwarmError } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { Permits } from '../../common/permits.ts';
import type { Quota, RateLimiter } from '../../common/rate-limiter.ts';
import type { AdapterLayout } from '../../lora/adapter/layout.ts';
import type { SwarmNetwork } from '../../net/network.ts';
import { sha256 } from '../../protocol/cbor.ts';
import { BLOB_IDLE_TIMEOUT_MS } from '../../protocol/limits.ts';
import type { Update } from '../../protocol/messages.ts';
import type { Verified } from '../../protocol/signing.ts';
import type { BlobCollector, BlobScope } from '../../storage/blob-collector.ts';
import type { BlobStore } from '../../storage/blobs.ts';
import { coordinatorError } from '../errors.ts';
import type { Failpoint } from '../failpoints.ts';
import type { Arithmetic } from '../merge/arithmetic.ts';
import type { StoredReceipt } from '../store/store.ts';
import {
  checkHeader,
  fetchRefusal,
  isBreach,
  type JobFacts,
  payloadRefusal,
  type Refusal,
  verifyUpdate,
} from './header-checks.ts';

/** Honest nodes send one update per round, perhaps twice over gossip and once by request. */
export const UPDATE_QUOTA: Quota = { calls: 20, perMs: 30_000 };
/** Payloads checked at a time: each lies in memory whole, up to 64 MiB of it. Nothing in a check waits for a peer. */
export const PAYLOADS_AT_ONCE = 4;
/**
 * Announced payloads fetched at a time, each from another author: whoever hands out slowly or never takes one of these
 * turns, whatever it announces. A fetch has at most 28 ranges of 1 MiB in memory (net/blobs/download.ts), so all together
 * stay below half a GiB; and 16 lines of 2 Mbit/s are more than most coordinators' own line takes in.
 */
export const FETCHES_AT_ONCE = 16;
/** Bytes of payloads that wait for their turn; what comes on top is dropped, and its author submits it again. */
export const WAITING_BYTES = 64 * 1024 * 1024;
/** Bytes per second at which an author must hand out its payload: 2 Mbit/s, a slow line's upstream. */
export const LEAST_FETCH_RATE = 256 * 1024;
/** What comes on top for every size: one stream that fails and a second one that works. */
const FETCH_START_MS = 2 * BLOB_IDLE_TIMEOUT_MS;

/** Failures of a fetch that say nothing about whoever announced the payload. */
const OWN_FAULTS: readonly string[] = ['STORE_FULL', 'WRITE_FAILED', 'HASH_FAILED'];

/** Milliseconds within which an announced payload of so many bytes must be here, once it is its turn. */
export function fetchTimeoutMs(size: number): number {
  return FETCH_START_MS + Math.ceil((size / LEAST_FETCH_RATE) * 1000);
}

/** An update that has passed every check; its payload is a durable blob. */
export interface Accepted {
  readonly author: string;
  readonly update: Update;
  readonly envelope: Uint8Array;
}

/** What a refusal is about: who answers for it (the author, or who sent it where there is none) and which update. */
export interface Subject {
  readonly peer: string;
  /** Of the payload, or of the raw message where none could be read. */
  readonly digest: string;
  readonly update: Update | null;
}

export interface IntakeDeps {
  readonly network: Pick<SwarmNetwork, 'fetchBlob'>;
  readonly blobs: BlobStore;
  readonly collector: BlobCollector;
  readonly arithmetic: Arithmetic;
  readonly limiter: RateLimiter;
  readonly clock: Clock;
  readonly log: Logger;
  readonly failpoint: Failpoint;
  /** What the checks hold updates against; asked anew for each, for rounds close meanwhile. */
  view(): JobFacts;
  /** The receipt of an update that is already recorded. */
  receiptOf(peer: string, digest: string): StoredReceipt | null;
  /** Makes an accepted update durable and returns its receipt. */
  record(accepted: Accepted): StoredReceipt;
  /** Notes a refusal and returns its receipt. */
  refused(refusal: Refusal, subject: Subject): StoredReceipt;
}

/** Judged at once by its header; the receipt follows when the payload has been looked at. */
export interface Judged {
  readonly verdict: 'accept' | 'ignore' | 'reject';
  /** @throws SwarmError BUSY when there is no room for the payload now */
  readonly receipt: Promise<StoredReceipt>;
}

/**
 * Takes updates in: cheap checks first, then the payload, then the record. Memory is bounded whatever arrives: per peer
 * by a rate, per round by one update of each assigned peer, and altogether by WAITING_BYTES.
 */
export class Intake {
  readonly #layout: AdapterLayout;
  readonly #signal: AbortSignal;
  readonly #deps: IntakeDeps;
  /** Updates whose payload is being looked at, by round and author. */
  readonly #working = new Map<string, { digest: string; receipt: Promise<StoredReceipt> }>();
  readonly #checks = new Permits(PAYLOADS_AT_ONCE);
  readonly #fetches = new Permits(FETCHES_AT_ONCE);
  /** One per author, and one per digest. */
  readonly #fetchesOf = new Permits(1);
  #waitingBytes = 0;

  constructor(options: { layout: AdapterLayout; signal: AbortSignal }, deps: IntakeDeps) {
    this.#layout = options.layout;
    this.#signal = options.signal;
    this.#deps = deps;
  }

  /** Payload digest of an update that is being looked at. */
  inWork(round: number, peer: string): string | null {
    return this.#working.get(key(round, peer))?.digest ?? null;
  }

  /** @param sender who handed the bytes to us in its own name: gossip's author, or the caller of a request */
  receive(bytes: Uint8Array, sender: string): Judged {
    if (!this.#deps.limiter.take(sender, UPDATE_QUOTA)) {
      const refusal: Refusal = {
        code: 'rate-limited',
        detail: `more than ${UPDATE_QUOTA.calls} updates in ${UPDATE_QUOTA.perMs / 1000} s`,
      };
      return this.#refuse(refusal, { peer: sender, digest: sha256(bytes), update: null });
    }
    const opened = verifyUpdate(bytes);
    if ('code' in opened) return this.#refuse(opened, { peer: sender, digest: sha256(bytes), update: null });
    return this.#judge(opened, bytes, sender);
  }

  #judge({ author, message: update }: Verified<'update'>, envelope: Uint8Array, sender: string): Judged {
    const { digest } = update.payload;
    const view = this.#deps.view();
    // Nobody has reason to send what another node wrote: it is the sender, not the author, who is told so.
    if (sender !== author) {
      const refusal: Refusal = { code: 'duplicate', detail: `a replay of an update of ${author}` };
      return this.#refuse(refusal, { peer: sender, digest: sha256(envelope), update: null });
    }
    // The same update again, over another path: it gets the answer that it got, or is getting.
    const same = this.#working.get(key(update.round, author));
    if (same?.digest === digest) return { verdict: 'ignore', receipt: same.receipt };
    const given = update.job === view.job ? this.#deps.receiptOf(author, digest) : null;
    // `unavailable` stands too, if the same bytes become available later: their author has put them back into its
    // error feedback, and sends their content again with the next round. Taken now, it would count twice.
    const stands = view.known(update.round, author) === digest || given?.code === 'unavailable';
    if (given?.round === update.round && stands)
      return { verdict: 'ignore', receipt: Promise.resolve(given) };
    const refusal = checkHeader(update, author, view);
    if (refusal) return this.#refuse(refusal, { peer: author, digest, update });

    const size = update.inline?.byteLength ?? 0;
    if (this.#waitingBytes + size > WAITING_BYTES) {
      const busy = coordinatorError(
        'BUSY',
        'the coordinator is busy with other updates; send this one again',
        {},
      );
      return { verdict: 'ignore', receipt: rejected(busy) };
    }
    this.#waitingBytes += size;
    const receipt = this.#deps.collector
      .withScope((scope) => this.#take({ author, update, envelope }, scope))
      .finally(() => {
        this.#waitingBytes -= size;
        this.#working.delete(key(update.round, author));
      });
    this.#working.set(key(update.round, author), { digest, receipt });
    return { verdict: 'accept', receipt };
  }

  #refuse(refusal: Refusal, subject: Subject): Judged {
    const verdict = isBreach(refusal.code) ? 'reject' : 'ignore';
    return { verdict, receipt: Promise.resolve(this.#deps.refused(refusal, subject)) };
  }

  /** @param scope holds the payload until the record names it */
  async #take(accepted: Accepted, scope: BlobScope): Promise<StoredReceipt> {
    const { author, update } = accepted;
    const subject = { peer: author, digest: update.payload.digest, update };
    await scope.hold(update.payload.digest);
    const missing = update.inline === null ? await this.#fetch(author, update.payload) : null;
    const refusal = missing ?? (await this.#check(author, update, scope));
    this.#signal.throwIfAborted();
    if (refusal) return this.#deps.refused(refusal, subject);
    // Its round may have closed while the payload was on its way.
    const view = this.#deps.view();
    const now = checkHeader(update, author, { ...view, known: () => null });
    if (now) return this.#deps.refused(now, subject);
    return this.#deps.record(accepted);
  }

  /** Leaves a payload that decodes as a durable blob. */
  async #check(author: string, update: Update, scope: BlobScope): Promise<Refusal | null> {
    const { arithmetic, blobs, log } = this.#deps;
    const { digest, size } = update.payload;
    const giveBack = await this.#checks.take('', this.#signal);
    try {
      const payload = update.inline ?? (await blobs.get(digest, { maxBytes: size }));
      if (payload.byteLength !== size) {
        const detail = `${size} bytes declared, the payload has ${payload.byteLength}`;
        return { code: 'size-mismatch', detail };
      }
      await arithmetic.check(
        payload,
        { layout: this.#layout, preset: update.preset },
        { signal: this.#signal },
      );
      await scope.put(payload, digest);
      this.#deps.failpoint('update-blob');
      return null;
    } catch (error) {
      if (!isSwarmError(error)) throw error;
      // What lies under the digest is not what was announced, or not there any more.
      if (error.code.startsWith('BLOB_')) return fetchRefusal(error.code, error.message);
      if (!error.code.startsWith('UPDATE_')) throw error;
      log.debug({ peer: author, code: error.code, bytes: size }, 'payload-refused');
      return payloadRefusal(error.code, error.message);
    } finally {
      giveBack();
    }
  }

  /** Gets an announced payload into the store, in its turn; the refusal when that cannot be done. */
  async #fetch(author: string, ref: { digest: string; size: number }): Promise<Refusal | null> {
    const { network, clock } = this.#deps;
    const giveBack = await this.#turnToFetch(author, ref.digest);
    const limits = {
      clock,
      ms: fetchTimeoutMs(ref.size),
      signal: this.#signal,
      what: `the payload of ${author}`,
    };
    try {
      await withDeadline(limits, (signal) => network.fetchBlob(ref, { holders: [author], signal }));
      return null;
    } catch (error) {
      this.#signal.throwIfAborted();
      // What our own disk refuses is not the author's fault: it submits the update again.
      if (!isSwarmError(error) || OWN_FAULTS.includes(error.code)) throw error;
      return fetchRefusal(error.code, error.message);
    } finally {
      giveBack();
    }
  }

  /**
   * First the author's turn among its own updates, and the blob's among all who announce it: nobody's time runs while it
   * waits for what somebody else pretends to have. Only then one of the turns that all share.
   */
  async #turnToFetch(author: string, digest: string): Promise<() => void> {
    const taken: (() => void)[] = [];
    const giveBack = (): void => {
      for (const give of taken) give();
    };
    try {
      taken.push(await this.#fetchesOf.take(author, this.#signal));
      taken.push(await this.#fetchesOf.take(digest, this.#signal));
      taken.push(await this.#fetches.take('', this.#signal));
      return giveBack;
    } catch (error) {
      giveBack();
      throw error;
    }
  }
}

function key(round: number, peer: string): string {
  return `${round}/${peer}`;
}

/** A rejection that whoever does not wait for it may leave alone. */
function rejected(error: SwarmError): Promise<never> {
  const promise = Promise.reject(error);
  promise.catch(() => {});
  return promise;
}
