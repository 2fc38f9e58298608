import { type Quota, RateLimiter } from '../../common/limits/rate-limiter.ts';
import { ROUND_PEERS } from '../../protocol/limits.ts';
import type { RunContext } from '../context.ts';
import type { Receipts } from '../record/receipts.ts';
import type { RoundDriver } from '../record/round-driver.ts';
import { isOver } from '../round/job-phase.ts';
import type { Ledger } from '../trust/ledger.ts';
import { type Departure, type Hold, Liveness } from './liveness.ts';
import type { MemberList } from './member-list.ts';
import { presentPeer } from './present-peer.ts';
import type { Processes } from './processes.ts';
import type { RefusedNodes } from './refused-nodes.ts';

/**
 * Limit on recorded arrivals and departures of one member. Each record is an event, and the store never deletes
 * events. A node with a bad connection disappears every few minutes, and would fill the store without the limit.
 * Arrivals and departures above the limit take effect too, but are not recorded.
 */
export const PRESENCES: Quota = { calls: 12, perMs: 60 * 60_000 };
/**
 * Limit on recorded arrivals and departures of members that have never delivered an update, for all such members of all
 * jobs together. The limit is needed because an attacker can make any number of such members in an open job.
 */
export const IDLE_PRESENCES: Quota = { calls: 4 * ROUND_PEERS, perMs: 60 * 60_000 };

interface PresenceDeps {
  readonly context: RunContext;
  readonly driver: RoundDriver;
  readonly receipts: Receipts;
  readonly ledger: Ledger;
  readonly members: MemberList;
  /**
   * Called when a member waits for the round after `round`, because its update of `round` has been delivered or is
   * lost.
   */
  readonly onIdle: (peer: string, round: number) => void;
  readonly processes: Processes;
  readonly refused: RefusedNodes;
}

/** Records when members come and go, and reports this to the job's state machine. */
export class Presence {
  readonly liveness: Liveness;
  readonly #deps: PresenceDeps;
  /**
   * Limits the recorded arrivals and departures of each member (see PRESENCES). The limiter has room for as
   * many members as a job can have, so it never forgets how often a member came and went.
   */
  readonly #limiter: RateLimiter;
  /**
   * Present members that have told neither that they are ready nor that they take no work. Their arrival is not an event
   * yet, so that the event can say which of the two is true.
   */
  readonly #arriving = new Set<string>();

  constructor(deps: PresenceDeps) {
    this.#deps = deps;
    const { context, members, driver, onIdle, processes, refused } = deps;
    this.#limiter = new RateLimiter(context.deps);
    this.liveness = new Liveness({
      context,
      isMember: (peer) => members.has(peer),
      refused,
      events: {
        onPresent: (peer) => this.#arrived(peer),
        onReady: (peer) => this.#ready(peer),
        onIdle,
        onRun: (sign) => processes.noteHeartbeat(sign),
        onHold: (peer, hold) => this.#held(peer, hold),
        onGone: (peer, reason) => this.#gone(peer, reason),
      },
    });
    const { present } = driver.state;
    // A member that was present when the coordinator ended was seen until then. If the coordinator was killed, the time
    // of its end is not stored, so the time of the newest event takes its place.
    const lastEventAt = context.deps.store.events.newestAt(context.job) ?? 0;
    for (const { peer, joinedAt, seenAt } of members.all()) {
      const isAbsent = seenAt !== null && !Object.hasOwn(present, peer);
      this.liveness.recall(peer, isAbsent ? seenAt : Math.max(joinedAt, lastEventAt));
    }
    for (const peer of Object.keys(present)) {
      members.change(peer, { seenAt: null });
      this.liveness.expect(peer);
    }
  }

  /**
   * Records when the members were last seen, because the coordinator stops. Skips members whose departure is recorded,
   * because a time from the monotonic clock is wrong if the clock was set or the machine slept since the departure.
   */
  recordLastSigns(): void {
    const { context, members } = this.#deps;
    const { store, log } = context.deps;
    try {
      store.transaction(() => {
        for (const { peer, saidGoodbye, seenAt } of members.all()) {
          if (seenAt !== null) continue;
          members.recordPresence(peer, { saidGoodbye, seenAt: this.liveness.seenAt(peer) });
        }
      });
    } catch (error) {
      // The disk may be full. The next start then takes the time of the newest event.
      log.warn({ job: context.job, error }, 'last-signs-not-stored');
    }
  }

  /** Reports a changed role of a member to the state machine of the job. */
  roleChanged(peer: string): void {
    if (this.#deps.members.get(peer)?.role !== 'contributor') {
      this.#deps.driver.dispatch({ type: 'peer-gone', peer, reason: 'left' });
    } else if (this.liveness.get(peer)?.ready) this.#ready(peer);
  }

  #arrived(peer: string): void {
    const { members, driver } = this.#deps;
    if (!this.#mayRecord(peer)) {
      members.change(peer, { saidGoodbye: false, seenAt: null });
      return;
    }
    this.#arriving.add(peer);
    driver.transact(() => members.recordPresence(peer, { saidGoodbye: false, seenAt: null }));
  }

  /** Reports a ready member to the state machine of the job, if it is a contributor. Other members get no work. */
  #ready(peer: string): void {
    const { context, members, ledger, driver } = this.#deps;
    const { speed, role, ...member } = members.get(peer)!;
    if (this.#arriving.delete(peer)) {
      const { name, engine } = member;
      driver.transact((outbox) => outbox.event({ type: 'peer-joined', peer, name, engine }));
    }
    if (role !== 'contributor') return;
    const standing = ledger.standings.ofMember(member);
    driver.dispatch({ type: 'peer-ready', peer, ...presentPeer(context, { peer, speed, standing }) });
  }

  /**
   * Records that a hold of a node begins, or that it ends (`hold` is null). The round no longer waits for a node with a
   * hold, and the next rounds leave the node out.
   */
  #held(peer: string, hold: Hold | null): void {
    const { members, driver } = this.#deps;
    if (hold !== null) driver.dispatch({ type: 'peer-gone', peer, reason: 'held' });
    const isNew = hold !== null && this.#arriving.delete(peer);
    // The arrival of a new member has already been taken from its quota.
    if (!isNew && !this.#mayRecord(peer)) return;
    const { name } = members.get(peer)!;
    const { reason, detail } = hold ?? { reason: null, detail: '' };
    const joined = isNew ? { joined: true as const } : {};
    driver.transact((outbox) => outbox.event({ type: 'peer-held', peer, name, reason, detail, ...joined }));
  }

  /**
   * Remembers that a node was refused because its clock is wrong. Of several refusals of the node, only the first becomes an
   * event.
   */
  noteRefusal(peer: string, { name, engine, hold }: { name: string; engine: string; hold: Hold }): void {
    const { driver, refused } = this.#deps;
    const isNew = refused.note(peer, { name, engine, hold });
    if (!isNew || isOver(driver.state) || !this.#mayRecord(peer)) return;
    driver.transact((outbox) => outbox.event({ type: 'peer-held', peer, name, ...hold }));
  }

  #gone(peer: string, reason: Departure): void {
    const { members, driver } = this.#deps;
    const joined = this.#arriving.delete(peer) ? { joined: true as const } : {};
    // A removed member is not in the list. `Removals` has already reported it to the state machine.
    const known = members.get(peer);
    if (!known) return;
    const records = this.#mayRecord(peer);
    const gone = reason === 'clock' ? 'silent' : reason;
    driver.dispatch({ type: 'peer-gone', peer, reason: gone }, (outbox) => {
      if (!records) return;
      members.recordPresence(peer, { saidGoodbye: reason === 'left', seenAt: this.liveness.seenAt(peer) });
      outbox.event({ type: 'peer-lost', peer, name: known.name, reason, ...joined });
    });
    if (!records) members.change(peer, { saidGoodbye: reason === 'left' });
  }

  /**
   * Takes one recorded arrival or departure from the quota of a member. If the quota is used up, counts the change as
   * unrecorded.
   */
  #mayRecord(peer: string): boolean {
    const { context, receipts, members } = this.#deps;
    const { limiter, manifest, deps } = context;
    const isIdle = receipts.lastDelivery(peer) === null;
    // A node that is not a member gets no quota of its own, because anyone can have any number of such nodes.
    const records =
      (!members.has(peer) || this.#limiter.take(peer, PRESENCES)) &&
      (!isIdle || limiter.take('presences', IDLE_PRESENCES));
    if (!records) deps.meter.unrecorded(manifest.name, 'presence');
    return records;
  }
}
