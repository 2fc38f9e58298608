import type { Quota } from '../../common/limits/rate-limiter.ts';
import { keepEvidence } from '../../protocol/evidence.ts';
import type { Update } from '../../protocol/messages.ts';
import { counts } from '../../protocol/receipts.ts';
import { expectedTokens } from '../../verify/merge/expected-tokens.ts';
import type { RunContext } from '../context.ts';
import type { Membership } from '../peers/membership.ts';
import { clip } from '../record/heads.ts';
import type { Outbox } from '../record/outbox.ts';
import type { Receipts } from '../record/receipts.ts';
import type { RoundDriver } from '../record/round-driver.ts';
import type { RoundRecord } from '../record/round-record.ts';
import { isOpen } from '../round/job-phase.ts';
import { speedAfter } from '../round/speed.ts';
import type { StoredReceipt } from '../store/store.ts';
import type { Ledger } from '../trust/ledger.ts';
import type { Refusal } from './header-checks.ts';

/**
 * Maximum number of refusals that are recorded and logged for one member in one round. An honest node causes one or
 * two, for example if it submits an update again. Further refusals of a member, and all refusals of peers that are not
 * members, are counted but not recorded.
 */
export const RECORDED_REFUSALS = 8;
/**
 * Limit on recorded refusals of all members together. The limit is needed because each record waits for the disk and is
 * kept, and an attacker can make any number of members in an open job. The first refusal of an assigned node in a round
 * does not count towards this limit, so other members cannot prevent its record.
 */
export const ALL_REFUSALS: Quota = { calls: 512, perMs: 60_000 };

/**
 * Maximum total size, in bytes, of a job's proofs against nodes that signed two updates of a round. It is enough for
 * 120 proofs with two inline payloads each. Above this size, new proofs are kept without their payloads. Other peers
 * cannot verify a proof without payloads, and have to trust the coordinator.
 */
export const PROOF_BYTES = 64 * 1024 * 1024;

/** Two different updates of one round, signed by the same node. */
export interface Conflict {
  readonly round: number;
  readonly peer: string;
  /** The update that arrived first: digest of its payload, its signed message, and its evidence (see evidence.ts). */
  readonly first: {
    readonly digest: string;
    readonly envelope: Uint8Array | null;
    readonly evidence: Uint8Array;
  };
  readonly second: { readonly update: Update; readonly envelope: Uint8Array };
}

/** A refused update, and the peer that gets the refusal. */
export interface RefusedUpdate {
  /** The author of the update, or the sender if the message has no valid author. */
  readonly peer: string;
  /** Digest of the payload, or of the whole message if no payload could be read. */
  readonly digest: string;
  /** The round that an unverified message claims. @default the round of `update`, or else the job's round */
  readonly round?: number;
  /** The update; null if the message could not be read, or if its signature was not verified. */
  readonly update: Update | null;
}

/** The parts of a job that the intake uses. */
export interface IntakeDeps {
  readonly context: RunContext;
  readonly driver: RoundDriver;
  readonly record: RoundRecord;
  readonly receipts: Receipts;
  readonly ledger: Ledger;
  readonly members: Membership;
}

/** Records accepted and refused updates, each with its receipt. */
export class UpdateRecorder {
  readonly #context: RunContext;
  readonly #driver: RoundDriver;
  readonly #record: RoundRecord;
  readonly #receipts: Receipts;
  readonly #ledger: Ledger;
  readonly #members: Membership;
  /** Refusals recorded in this round, by member. */
  readonly #refusals = new Map<string, number>();
  #refusalsRound = 0;

  constructor(deps: IntakeDeps) {
    this.#context = deps.context;
    this.#driver = deps.driver;
    this.#record = deps.record;
    this.#receipts = deps.receipts;
    this.#ledger = deps.ledger;
    this.#members = deps.members;
  }

  /** Records an update that has passed all checks, and whose payload is a durable blob. */
  accept(author: string, update: Update, envelope: Uint8Array): StoredReceipt {
    const { job, stored, manifest, deps } = this.#context;
    const { state } = this.#driver;
    const now = deps.clock.now();
    const { round, preset, tokens, payload, seconds, lossFirst, lossLast } = update;
    const { digest, size } = payload;
    const { current } = state;
    // The node's speed is measured from the time when the round opened. This time is known on the monotonic
    // clock only for the current round. For an earlier round, the speed is measured with the wall clock.
    const taken =
      current?.number === round
        ? deps.clock.monotonic() - current.openedAt
        : now - this.#record.round(round)!.openedAt;
    const ms = Math.max(1, taken);
    const late = !isOpen(state) || state.round !== round;
    const speed = speedAfter(this.#members.list.get(author)?.speed ?? 0, {
      tokens: expectedTokens(update.steps, manifest),
      ms,
      isLate: late,
    });
    const code = late ? 'late' : 'accepted';
    const detail = late ? `round ${round} had closed; the update counts with the next merge` : '';
    const common = { round, peer: author, digest };
    const receipt: StoredReceipt = { ...common, term: stored.term, code, detail, issuedAt: now };
    const evidence = keepEvidence(envelope);
    const write = (outbox: Outbox): void => {
      deps.store.updates.insert(job, {
        ...common,
        size,
        preset,
        tokens,
        lossLast,
        evidence,
        arrivedAt: now,
        late,
      });
      deps.store.blobs.use(job, 'update', round, [digest]);
      deps.store.peers.setSpeed(job, author, speed);
      outbox.receipt(receipt);
      const figures = { bytes: size, tokens, seconds, lossFirst, lossLast };
      outbox.event({ type: 'update', round, peer: author, code, detail, ...figures });
    };
    this.#driver.dispatch({ type: 'update', peer: author, round, ms, speed }, write, 'update-recorded');
    this.#members.setSpeed(author, speed);
    this.#receipts.noteDelivery(author, round);
    return receipt;
  }

  /**
   * Records two different updates of a round as proof against their author. The first update no longer counts, unless a
   * merge has already taken it. Returns the receipt of the second update.
   */
  exclude({ round, peer, first, second }: Conflict): StoredReceipt {
    const { job, stored, manifest, deps } = this.#context;
    const { store, meter, clock, log } = deps;
    const recorded = store.updates.find(job, round, peer);
    const isTaken = recorded !== null && (recorded.mergeRound !== null || recorded.fate !== 'open');
    const issuedAt = clock.now();
    const code = 'conflicting';
    const detail = isTaken
      ? `the node signed two different updates for round ${round}; the first had already been taken by a merge`
      : `the node signed two different updates for round ${round}`;
    const common = { term: stored.term, round, peer, code, detail, issuedAt } as const;
    const { payload, tokens, seconds, lossFirst, lossLast } = second.update;
    const receipt: StoredReceipt = { ...common, digest: payload.digest };
    const size = (first.envelope?.byteLength ?? 0) + second.envelope.byteLength;
    // Keep a complete proof only if there is none yet, because one proof against a node is enough.
    const complete =
      first.envelope !== null &&
      !store.conflicts.isProven(job, peer) &&
      store.conflicts.bytes(job) + size <= PROOF_BYTES;
    const write = (outbox: Outbox): void => {
      store.conflicts.insert(job, {
        round,
        peer,
        first: complete ? first.envelope! : first.evidence,
        second: complete ? second.envelope : keepEvidence(second.envelope),
        complete,
        recordedAt: issuedAt,
      });
      if (recorded !== null && !isTaken) {
        store.updates.remove(job, round, peer);
        outbox.receipt({ ...common, digest: first.digest });
        outbox.event({ type: 'update-undone', round, peer, code, detail });
      }
      if (first.digest !== payload.digest || recorded === null) outbox.receipt(receipt);
      const figures = { bytes: payload.size, tokens, seconds, lossFirst, lossLast };
      outbox.event({ type: 'update', round, peer, code, detail, ...figures });
      this.#ledger.convict(peer, { round, digest: payload.digest }, outbox);
    };
    this.#driver.dispatch({ type: 'excluded', peer, round }, write);
    meter.refusal(manifest.name, code);
    log.warn({ peer, round, complete }, 'two-updates-signed');
    return receipt;
  }

  /**
   * Counts a refusal. If the peer is a member, also records the refusal, within limits. Refusals of other peers leave
   * nothing in the store.
   */
  refuse(
    { code, detail: full }: Refusal,
    { peer, digest, update, ...claimed }: RefusedUpdate,
  ): StoredReceipt {
    const { job, stored, manifest, deps } = this.#context;
    const round = update?.round ?? claimed.round ?? this.#driver.state.round;
    const detail = clip(full);
    const issuedAt = deps.clock.now();
    const receipt: StoredReceipt = { term: stored.term, round, peer, digest, code, detail, issuedAt };
    deps.meter.refusal(manifest.name, code);
    if (!this.#members.list.has(peer)) return receipt;
    // An author can sign the payload of a recorded update again, with other claims. The recorded update keeps its
    // receipt.
    const standing = deps.store.updates.receipt(job, peer, digest);
    if (standing !== null && counts(standing.code)) {
      this.#receipts.count(receipt);
      return receipt;
    }
    // The author signed the digest of this payload, so the author is to blame for a payload that cannot be used.
    const isMisdeed = update !== null && (code === 'bad-payload' || code === 'not-finite');
    const note = (): void => {
      if (isMisdeed) this.#ledger.noteBadPayload({ peer, round, digest });
    };
    if (!this.#mayRecordRefusal(peer)) {
      this.#receipts.count(receipt);
      if (isMisdeed) this.#driver.transact(note);
      return receipt;
    }
    this.#driver.transact((outbox) => {
      note();
      outbox.receipt(receipt);
      outbox.event({
        type: 'update',
        round,
        peer,
        code,
        detail,
        bytes: update?.payload.size ?? 0,
        tokens: update?.tokens ?? 0,
        seconds: update?.seconds ?? 0,
        lossFirst: update?.lossFirst ?? null,
        lossLast: update?.lossLast ?? null,
      });
    });
    deps.log.warn({ peer, round, code, detail }, 'update-refused');
    return receipt;
  }

  #mayRecordRefusal(peer: string): boolean {
    const { round, current } = this.#driver.state;
    if (this.#refusalsRound !== round) this.#refusals.clear();
    this.#refusalsRound = round;
    const count = this.#refusals.get(peer) ?? 0;
    if (count >= RECORDED_REFUSALS) return false;
    const isReserved = count === 0 && (current?.assigned.includes(peer) ?? false);
    if (!isReserved && !this.#context.limiter.take('refusals', ALL_REFUSALS)) return false;
    this.#refusals.set(peer, count + 1);
    return true;
  }
}
