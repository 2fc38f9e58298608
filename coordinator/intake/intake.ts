import { isSwarmError, type SwarmError } from '../../common/errors.ts';
import { type Quota, RateLimiter } from '../../common/limits/rate-limiter.ts';
import { sha256 } from '../../protocol/cbor.ts';
import { keepEvidence, saysTheSame } from '../../protocol/evidence.ts';
import type { Update } from '../../protocol/messages.ts';
import type { Verified } from '../../protocol/signing.ts';
import type { BlobScope } from '../../storage/blob-collector.ts';
import type { RunContext } from '../context.ts';
import { coordinatorError } from '../errors.ts';
import type { Membership } from '../peers/membership.ts';
import type { Receipts } from '../record/receipts.ts';
import type { RoundDriver } from '../record/round-driver.ts';
import type { RoundRecord } from '../record/round-record.ts';
import { isOpen, isOver } from '../round/job-phase.ts';
import type { StoredReceipt, StoredUpdate } from '../store/store.ts';
import { type Checking, updateKey } from './checking.ts';
import { Conflicts } from './conflicts.ts';
import {
  checkHeader,
  claimedUpdate,
  type HeaderFacts,
  isBreach,
  NOT_ADMITTED,
  type Refusal,
  readUpdate,
} from './header-checks.ts';
import { PayloadIntake } from './payload-intake.ts';
import { type IntakeDeps, type RefusedUpdate, UpdateRecorder } from './update-recorder.ts';

/**
 * Limit on messages with updates from one member. An honest node sends at most three messages per round: its update up
 * to twice over gossipsub, and once by request. The limit is therefore enough for rounds of 5 s.
 */
export const UPDATE_QUOTA: Quota = { calls: 20, perMs: 30_000 };
/**
 * Maximum total size, in bytes, of the inline payloads that wait for their check. If a further payload would
 * exceed this size, its author gets the error BUSY and submits the update again later.
 */
export const WAITING_BYTES = 64 * 1024 * 1024;

/**
 * Answer to an update. The verdict depends only on the header of the update, so it is known immediately. The
 * receipt follows when the payload has been checked.
 */
export interface Judged {
  /** The verdict on the gossip message with the update, for gossipsub. */
  readonly verdict: 'accept' | 'ignore' | 'reject';
  /** The receipt of the update. Rejects with SwarmError BUSY if too many payloads are waiting for their check. */
  readonly receipt: Promise<StoredReceipt>;
}

/**
 * Checks and records updates. An update passes cheap checks of its header, then the check of its payload, and is then
 * recorded. Three limits bound the memory that peers can make the coordinator use: a rate per peer, one update per
 * round from each assigned peer, and WAITING_BYTES for all payloads together.
 */
export class Intake {
  readonly #context: RunContext;
  readonly #driver: RoundDriver;
  readonly #record: RoundRecord;
  readonly #members: Membership;
  readonly #receipts: Receipts;
  readonly #payloads: PayloadIntake;
  readonly #recorder: UpdateRecorder;
  readonly #conflicts: Conflicts;
  /**
   * Limits the updates of each member. The limiter remembers as many keys as a job can have members, so it does not
   * forget the key of any member.
   */
  readonly #limiter: RateLimiter;
  /** Updates whose payloads are being checked, by round and author. */
  readonly #checking = new Map<string, Checking>();
  #waitingBytes = 0;

  constructor(deps: IntakeDeps) {
    this.#context = deps.context;
    this.#driver = deps.driver;
    this.#record = deps.record;
    this.#members = deps.members;
    this.#receipts = deps.receipts;
    this.#payloads = new PayloadIntake(deps);
    this.#recorder = new UpdateRecorder(deps);
    this.#conflicts = new Conflicts({ context: deps.context, recorder: this.#recorder });
    this.#limiter = new RateLimiter({ clock: deps.context.deps.clock });
  }

  /** Number of updates whose payloads are being fetched or checked. */
  get queueLength(): number {
    return this.#checking.size;
  }

  /**
   * Returns the newest round for which a peer has an update that is recorded or is being checked; null if there is
   * none.
   */
  newestRoundOf(peer: string): number | null {
    const checked = [...this.#checking.values()].flatMap(({ author, round }) =>
      author === peer ? [round] : [],
    );
    const newest = Math.max(0, this.#receipts.lastDelivery(peer) ?? 0, ...checked);
    return newest === 0 ? null : newest;
  }

  /**
   * Receives a message that claims to be an update.
   * @param sender peer that sent the message in its own name: the author of a gossipsub message, or the caller of a
   *   request
   * @param options.sealed whether the message is sealed, as all updates over gossipsub are
   */
  receive(bytes: Uint8Array, sender: string, { sealed }: { sealed: boolean }): Judged {
    // Check membership first, because opening the seal and verifying the signature cost more. Anyone can sign any
    // number of updates under new identities.
    if (!this.#members.list.has(sender))
      return this.#refuse(NOT_ADMITTED, sealed ? unreadable(sender, bytes) : unverified(sender, bytes));
    if (!this.#limiter.take(sender, UPDATE_QUOTA)) {
      const { calls, perMs } = UPDATE_QUOTA;
      const detail = `more than ${calls} updates in ${perMs / 1000} s`;
      return this.#refuse({ code: 'rate-limited', detail }, unreadable(sender, bytes));
    }
    const envelope = sealed ? this.#open(bytes, sender) : bytes;
    if (envelope === null) {
      const detail = 'the message cannot be decrypted, because its sender has not sealed it for this job';
      return this.#refuse({ code: 'malformed', detail }, unreadable(sender, bytes));
    }
    const read = readUpdate(envelope);
    if ('code' in read) return this.#refuse(read, unreadable(sender, envelope));
    return this.#judge(read, envelope, sender);
  }

  #open(sealed: Uint8Array, sender: string): Uint8Array | null {
    try {
      return this.#context.keys.open(sealed, 'update', sender);
    } catch (error) {
      if (isSwarmError(error)) return null;
      throw error;
    }
  }

  /**
   * Makes the round stop waiting for a node. Called when the node waits for the next round although it has not
   * delivered its update, for example because its trainer died.
   */
  giveUp(peer: string, round: number): void {
    const { current } = this.#driver.state;
    if (current?.number !== round || !isOpen(this.#driver.state)) return;
    if (this.#checking.has(updateKey(round, peer))) return;
    if (!current.assigned.includes(peer)) return;
    if (current.delivered.includes(peer) || current.left.includes(peer)) return;
    this.#driver.dispatch({ type: 'gave-up', peer, round });
  }

  #judge({ author, message: update }: Verified<'update'>, envelope: Uint8Array, sender: string): Judged {
    const { digest } = update.payload;
    // Only the author has a reason to send an update. If another peer sent it, that peer gets the refusal.
    if (sender !== author) {
      const detail = `a replay of an update of ${author}`;
      return this.#refuse({ code: 'duplicate', detail }, unreadable(sender, envelope));
    }
    const earlier = this.#earlier(update, author);
    const standing = this.#standing(update, author, earlier);
    if (standing) return { verdict: 'ignore', receipt: standing };
    const facts = this.#factsFor(update, author);
    const conflicts = facts.conflicts || earlier !== null;
    const refusal = checkHeader(update, author, { ...facts, conflicts });
    if (refusal?.code === 'conflicting' && earlier && !facts.conflicts) {
      return { verdict: 'ignore', receipt: this.#conflicts.record(author, update, envelope, earlier) };
    }
    if (refusal) return this.#refuse(refusal, { peer: author, digest, update });

    const size = update.inline?.byteLength ?? 0;
    if (this.#waitingBytes + size > WAITING_BYTES) {
      const busy = coordinatorError('BUSY', 'the coordinator is checking too many other updates');
      return { verdict: 'ignore', receipt: rejected(busy) };
    }
    this.#waitingBytes += size;
    const receipt = this.#context.collector
      .withScope((scope) => this.#take(author, update, envelope, scope))
      .finally(() => {
        this.#waitingBytes -= size;
        this.#checking.delete(updateKey(update.round, author));
      });
    const evidence = keepEvidence(envelope);
    const { round } = update;
    this.#checking.set(updateKey(round, author), { author, round, digest, envelope, evidence, receipt });
    return { verdict: 'accept', receipt };
  }

  /** Returns the author's update of the same round, if the coordinator has recorded it or is checking it; else null. */
  #earlier({ job, round }: Update, author: string): Checking | StoredUpdate | null {
    if (job !== this.#context.job) return null;
    const { updates } = this.#context.deps.store;
    return this.#checking.get(updateKey(round, author)) ?? updates.find(job, round, author);
  }

  /**
   * Returns the receipt of an update that is already recorded, or that another call is checking now. Returns
   * null if the update is new, or must be checked again.
   */
  #standing(
    update: Update,
    author: string,
    earlier: Checking | StoredUpdate | null,
  ): Promise<StoredReceipt> | null {
    const { job, deps } = this.#context;
    if (update.job !== job) return null;
    // The same update may arrive twice, over gossipsub and by request. It gets one receipt.
    const isSame = earlier !== null && saysTheSame(update, earlier.evidence);
    if (isSame && 'receipt' in earlier) return earlier.receipt;
    const issued = deps.store.updates.receipt(job, author, update.payload.digest);
    if (issued?.round !== update.round) return null;
    // The receipt `unavailable` is final, even if the payload becomes available later. The author has added the update
    // back to its error feedback, and sends its content with the next round. If the update were accepted now, it would
    // count twice.
    const isFinal = issued.code === 'unavailable' || issued.code === 'conflicting';
    return isSame || isFinal ? Promise.resolve(issued) : null;
  }

  #refuse(refusal: Refusal, refused: RefusedUpdate): Judged {
    const verdict = isBreach(refusal.code) ? 'reject' : 'ignore';
    return { verdict, receipt: Promise.resolve(this.#recorder.refuse(refusal, refused)) };
  }

  /**
   * Checks the payload of an update, and records the update or its refusal.
   * @param scope protects the payload from garbage collection until the database refers to it
   */
  async #take(
    author: string,
    update: Update,
    envelope: Uint8Array,
    scope: BlobScope,
  ): Promise<StoredReceipt> {
    const refused = { peer: author, digest: update.payload.digest, update };
    const refusal = await this.#payloads.take(author, update, scope);
    this.#context.signal.throwIfAborted();
    if (refusal) return this.#recorder.refuse(refusal, refused);
    // Check the header again. During the fetch, the round may have closed, or the author may have sent
    // another update.
    const late = checkHeader(update, author, this.#factsFor(update, author));
    if (late) return this.#recorder.refuse(late, refused);
    return this.#recorder.accept(author, update, envelope);
  }

  #factsFor({ round }: Update, author: string): HeaderFacts {
    const { job, stored, manifest, layout } = this.#context;
    const { state } = this.#driver;
    const closed = state.current !== null && !isOpen(state);
    return {
      job,
      term: stored.term,
      mergeRound: isOver(state) ? null : state.round + (closed ? 1 : 0),
      sequenceLength: manifest.training.sequenceLength,
      batchSize: manifest.training.batchSize,
      layout,
      round: this.#record.round(round),
      admitted: this.#members.list.has(author),
      conflicts: this.#conflicts.has(round, author),
    };
  }
}

/** Describes a message of a peer that is not a member. The signature of the message has not been checked. */
function unverified(sender: string, bytes: Uint8Array): RefusedUpdate {
  const claim = claimedUpdate(bytes);
  if (claim === null) return unreadable(sender, bytes);
  return { peer: sender, digest: claim.payload, round: claim.round, update: null };
}

/** Describes a message whose author is unknown, or is not its sender. The refusal goes to the sender. */
function unreadable(sender: string, bytes: Uint8Array): RefusedUpdate {
  return { peer: sender, digest: sha256(bytes), update: null };
}

/** Returns a rejected promise that causes no error if it is not handled. */
function rejected(error: SwarmError): Promise<never> {
  const promise = Promise.reject(error);
  promise.catch(() => {});
  return promise;
}
