import { isSwarmError } from '../../common/errors.ts';
import { type Quota, RateLimiter } from '../../common/rate-limiter.ts';
import { CLOCK_SKEW_MS, ROUND_PEERS } from '../../protocol/limits.ts';
import type { RunContext } from '../context.ts';
import { coordinatorError } from '../errors.ts';
import type { Receipts } from '../record/receipts.ts';
import type { RoundDriver } from '../record/round-driver.ts';
import { isOver } from '../round/round-machine.ts';
import type { StoredPeer } from '../store/store.ts';
import { isSamePerson, type Ledger, type Who, whoIs } from '../trust/ledger.ts';
import { JOIN_REFUSALS } from './admission.ts';
import { memberToEvict } from './eviction.ts';
import { type Grant, Invites } from './invites.ts';
import { Liveness } from './liveness.ts';
import { presentPeer } from './present-peer.ts';

/** Largest number of members of a job. Bounds the memory that strangers can make the coordinator use. */
export const ADMITTED_PEERS = 4096;

/**
 * Limit on stored changes of one member's description. The name, version or engine of a node can change when its owner
 * restarts it. Each stored change is a write to disk, so changes above the limit are not stored. The node still takes
 * part.
 */
export const DESCRIPTIONS: Quota = { calls: 4, perMs: 10 * 60_000 };
/**
 * Limit on recorded arrivals and departures of one member. A node with a bad connection disappears every few minutes.
 * Arrivals and departures above the limit take effect too, but leave no event, because events are never deleted.
 */
export const PRESENCES: Quota = { calls: 12, perMs: 60 * 60_000 };
/**
 * Limit on recorded arrivals and departures of members that have never delivered an update, for all such members of all
 * jobs together. The limit is needed because such members cost an attacker nothing in an open job.
 */
export const IDLE_PRESENCES: Quota = { calls: 4 * ROUND_PEERS, perMs: 60 * 60_000 };

/** Time from the removal of a member to the end of its connections. */
const DISCONNECT_AFTER_MS = 500;

/** A node's request to join. */
export interface JoinRequest {
  readonly invite: string | null;
  readonly name: string;
  readonly agent: string;
  readonly engine: string;
  /** Time on the node's own clock. */
  readonly sentAt: number;
}

/** Reason for removing a member for good. */
export type Removal = 'revoked' | 'banned';

/** The nodes that a job has admitted. Tells the job's state machine when a node comes or goes. */
export class Membership {
  readonly liveness: Liveness;
  readonly invites: Invites;
  readonly #context: RunContext;
  readonly #driver: RoundDriver;
  readonly #receipts: Receipts;
  readonly #ledger: Ledger;
  readonly #peers: Map<string, StoredPeer>;
  /**
   * The newest round at the time when each member joined. For members that joined before this coordinator started, see
   * `#startRound`.
   */
  readonly #joinedRounds = new Map<string, number>();
  /**
   * Limits the changes of each member's description. This limiter and the next one remember as many keys as a job can
   * have members, so members do not displace each other's keys.
   */
  readonly #descriptions: RateLimiter;
  readonly #presences: RateLimiter;
  /** Newest round when this coordinator started. */
  readonly #startRound: number;

  constructor(deps: {
    context: RunContext;
    driver: RoundDriver;
    receipts: Receipts;
    ledger: Ledger;
    /** A member waits for the round after `round`. */
    onIdle: (peer: string, round: number) => void;
  }) {
    this.#context = deps.context;
    this.invites = new Invites(deps);
    this.#driver = deps.driver;
    this.#receipts = deps.receipts;
    this.#ledger = deps.ledger;
    this.#descriptions = new RateLimiter(deps.context.deps);
    this.#presences = new RateLimiter(deps.context.deps);
    this.liveness = new Liveness({
      context: deps.context,
      isMember: (peer) => this.has(peer),
      events: {
        onPresent: (peer) => this.#present(peer),
        onReady: (peer) => this.#ready(peer),
        onIdle: deps.onIdle,
        onGone: (peer, reason) => this.#gone(peer, reason),
      },
    });
    const { job, deps: world } = this.#context;
    this.#peers = new Map(world.store.peers.all(job).map((peer) => [peer.peer, peer]));
    this.#startRound = this.#newestRound();
    for (const peer of Object.keys(this.#driver.state.present)) this.liveness.expect(peer);
  }

  has(peer: string): boolean {
    return this.#peers.has(peer);
  }

  get(peer: string): StoredPeer | null {
    return this.#peers.get(peer) ?? null;
  }

  all(): readonly StoredPeer[] {
    return [...this.#peers.values()];
  }

  /**
   * Checks whether a node may join. A newcomer is checked before it waits in line, and again afterwards.
   * @throws SwarmError CLOCK_OFF, NOT_ADMITTED, INVITE_REVOKED, INVITE_EXPIRED, INVITE_USED, BANNED
   */
  checkJoin(peer: string, request: JoinRequest): 'member' | 'newcomer' {
    this.#counting(() => this.#check(peer, request));
    return this.#peers.has(peer) ? 'member' : 'newcomer';
  }

  #check(peer: string, { sentAt, invite }: JoinRequest): Grant {
    checkClock(sentAt, this.#context.deps.clock.now());
    const grant = this.invites.check(peer, invite, this.get(peer));
    this.#ledger.checkBan(whoIs({ peer, invite: grant.invite }));
    return grant;
  }

  /**
   * Admits a peer that only reads: it asks for the manifest and the newest head, and fetches a checkpoint.
   * @throws SwarmError NOT_ADMITTED, INVITE_REVOKED, INVITE_EXPIRED, INVITE_USED, BANNED
   */
  admitReader(peer: string, token: string | null): void {
    const { invite } = this.invites.check(peer, token, this.get(peer));
    this.#ledger.checkBan(whoIs({ peer, invite }));
    this.invites.admitReader(peer, token, this.get(peer));
  }

  /** Returns whether a peer may read what only admitted peers may: it is a member or an admitted reader. */
  mayRead(peer: string): boolean {
    if (this.#peers.has(peer)) return true;
    const who = whoIs({ peer, invite: this.invites.inviteOf(peer) });
    return this.invites.isReader(peer) && !this.#ledger.isBanned(who);
  }

  /**
   * Admits a node, or updates the description of a member.
   * @throws SwarmError CLOCK_OFF, NOT_ADMITTED, INVITE_REVOKED, INVITE_EXPIRED, INVITE_USED, BANNED,
   *   JOB_FULL
   */
  join(peer: string, request: JoinRequest): void {
    this.#counting(() => this.#join(peer, request, this.#check(peer, request)));
    this.#context.deps.meter.join(this.#context.manifest.name, 'ok');
  }

  #join(peer: string, { name, agent, engine }: JoinRequest, grant: Grant): void {
    const { job, manifest, deps } = this.#context;
    const known = this.#peers.get(peer);
    if (!known && this.#peers.size >= ADMITTED_PEERS && !this.#evict()) {
      const message = `all ${ADMITTED_PEERS} places of the job are taken by nodes that train`;
      throw coordinatorError('JOB_FULL', message, { limit: ADMITTED_PEERS });
    }
    const { invite, role } = grant;
    const changed =
      known?.name !== name ||
      known.agent !== agent ||
      known.engine !== engine ||
      known.invite !== invite ||
      known.role !== role;
    if (known && changed && !this.#descriptions.take(peer, DESCRIPTIONS)) {
      deps.meter.unrecorded(manifest.name, 'description');
    } else if (changed) {
      const entry: StoredPeer = {
        peer,
        name,
        agent,
        engine,
        joinedAt: known?.joinedAt ?? deps.clock.now(),
        speed: known?.speed ?? 0,
        saidGoodbye: known?.saidGoodbye ?? false,
        invite,
        role,
      };
      this.#peers.set(peer, entry);
      if (!known) this.#joinedRounds.set(peer, this.#newestRound());
      this.#driver.transact(() => {
        this.invites.bind(peer, grant);
        deps.store.peers.admit(job, entry);
      });
      this.#ledger.memberChanged(peer);
      if (known && known.role !== role) this.#roleChanged(peer);
    }
    if (!isOver(this.#driver.state)) this.liveness.join(peer);
  }

  /**
   * Removes members for good and closes their connections. Their messages are refused from now on, and their updates that
   * no merge has taken do not count. The caller has recorded before why the peers may not join again, so that the removal
   * also holds after a restart.
   */
  #removeAll(members: readonly StoredPeer[], reason: Removal): void {
    // The removal may announce a head, which the removed members must not be able to read.
    if (members.length > 0) this.#context.keys.rotate();
    for (const { peer } of members) this.#remove(peer, reason);
  }

  #remove(peer: string, reason: Removal): void {
    const { job, stored, deps } = this.#context;
    const known = this.#peers.get(peer);
    if (known) {
      this.#peers.delete(peer);
      this.#joinedRounds.delete(peer);
      this.#ledger.memberChanged(peer);
      this.#driver.dispatch({ type: 'peer-removed', peer }, (outbox) => {
        deps.store.peers.remove(job, peer);
        for (const { round, digest } of deps.store.updates.waitingOf(job, peer)) {
          const code = 'not-admitted';
          const detail = 'the node was removed from the job before the update was merged';
          deps.store.updates.remove(job, round, peer);
          outbox.receipt({
            term: stored.term,
            round,
            peer,
            digest,
            code,
            detail,
            issuedAt: deps.clock.now(),
          });
          outbox.event({ type: 'update-undone', round, peer, code, detail });
        }
        outbox.event({ type: 'peer-lost', peer, name: known.name, reason });
      });
      this.liveness.forget(peer);
      this.#receipts.forget(peer);
      deps.log.warn({ peer, name: known.name, reason }, 'member-removed');
    }
    // The peer first gets the receipts that say why.
    deps.clock.after(DISCONNECT_AFTER_MS, () => {
      if (!this.#peers.has(peer)) deps.network.disconnect(peer);
    });
  }

  /** Removes the members that a banned person answers for. The person's other machines can read no more. */
  removePerson(who: Who): void {
    const readers = this.invites.readersOf(who).filter((peer) => !this.#peers.has(peer));
    const members = this.all().filter((member) => isSamePerson(whoIs(member), who));
    this.#removeAll(members, 'banned');
    if (readers.length === 0) return;
    // A reader is no member, but it has the job key.
    if (members.length === 0) this.#context.keys.rotate();
    for (const peer of readers) this.#context.deps.network.disconnect(peer);
  }

  /** Removes the members whose ban a killed coordinator has recorded, but not enforced. */
  removeBanned(): void {
    const banned = this.all().filter((member) => this.#ledger.isBanned(whoIs(member)));
    this.#removeAll(banned, 'banned');
  }

  /** Revokes an invite for good and removes its members. @param id null for the shared invite */
  revokeInvite(id: string | null): void {
    // Readers have the job key too. A restart removes the remaining members and changes the key, but it does neither for
    // readers. So the key is changed before the invite is revoked.
    this.#context.keys.rotate();
    this.invites.revoke(id);
    // A reader is no member, but its connections are closed too.
    if (id !== null) for (const peer of this.invites.boundTo(id).keys()) this.#closeUnlessMember(peer);
    this.removeRevoked();
  }

  /** Removes the members whose invite is revoked. A killed coordinator may have left some. */
  removeRevoked(): void {
    const revoked = this.all().filter((member) => this.invites.isRevoked(member));
    this.#removeAll(revoked, 'revoked');
  }

  #closeUnlessMember(peer: string): void {
    if (!this.#peers.has(peer)) this.#context.deps.network.disconnect(peer);
  }

  /** Counts an error as the refusal of a request to join. */
  countRefusal(error: unknown): void {
    const { manifest, deps } = this.#context;
    for (const code of JOIN_REFUSALS) if (isSwarmError(error, code)) deps.meter.join(manifest.name, code);
  }

  /** Remembers a member's measured speed in tokens per second. The caller has stored it. */
  setSpeed(peer: string, speed: number): void {
    const known = this.#peers.get(peer);
    if (known) this.#peers.set(peer, { ...known, speed });
  }

  /** Removes a member to free a place for a newcomer. Returns false if all members must stay. */
  #evict(): boolean {
    const { job, deps } = this.#context;
    const { current, round } = this.#driver.state;
    const members = this.all().map(({ peer, joinedAt }) => ({
      peer,
      joinedRound: this.#joinedRounds.get(peer) ?? this.#startRound,
      seenAt: this.liveness.seenAt(peer) ?? joinedAt,
      present: this.liveness.get(peer) !== null,
      assigned: current?.assigned.includes(peer) ?? false,
      delivered: this.#receipts.lastDelivery(peer),
    }));
    const peer = memberToEvict(members, round);
    if (peer === null) return false;
    this.liveness.forget(peer);
    this.#driver.transact(() => deps.store.peers.remove(job, peer));
    this.#peers.delete(peer);
    this.#joinedRounds.delete(peer);
    this.#ledger.memberChanged(peer);
    this.#receipts.forget(peer);
    deps.log.info({ peer }, 'member-evicted');
    return true;
  }

  #present(peer: string): void {
    const { name, engine } = this.get(peer)!;
    if (!this.#recordsPresence(peer)) {
      this.#peers.set(peer, { ...this.get(peer)!, saidGoodbye: false });
      return;
    }
    this.#driver.transact((outbox) => {
      this.#setGoodbye(peer, false);
      outbox.event({ type: 'peer-joined', peer, name, engine });
    });
  }

  /** Only contributors are assigned work, so the state machine of the job does not hear of other members. */
  #ready(peer: string): void {
    if (this.get(peer)?.role !== 'contributor') return;
    const { speed, ...member } = this.get(peer)!;
    const standing = this.#ledger.standingOfMember(member);
    const ready = presentPeer(this.#context, { peer, speed, standing });
    this.#driver.dispatch({ type: 'peer-ready', peer, ...ready });
  }

  #roleChanged(peer: string): void {
    if (this.get(peer)?.role !== 'contributor') {
      this.#driver.dispatch({ type: 'peer-gone', peer, reason: 'left' });
    } else if (this.liveness.get(peer)?.ready) this.#ready(peer);
  }

  #gone(peer: string, reason: 'left' | 'silent'): void {
    // The round has been told of a removed member already.
    if (!this.#peers.has(peer)) return;
    const name = this.get(peer)?.name ?? '';
    const records = this.#recordsPresence(peer);
    this.#driver.dispatch({ type: 'peer-gone', peer, reason }, (outbox) => {
      if (!records) return;
      this.#setGoodbye(peer, reason === 'left');
      outbox.event({ type: 'peer-lost', peer, name, reason });
    });
    const known = this.get(peer);
    if (!records && known) this.#peers.set(peer, { ...known, saidGoodbye: reason === 'left' });
  }

  /**
   * Takes one recorded arrival or departure from the quota of a member. If the quota is used up, counts the change as
   * unrecorded.
   */
  #recordsPresence(peer: string): boolean {
    const { limiter, manifest, deps } = this.#context;
    const isIdle = this.#receipts.lastDelivery(peer) === null;
    const records =
      this.#presences.take(peer, PRESENCES) && (!isIdle || limiter.take('presences', IDLE_PRESENCES));
    if (!records) deps.meter.unrecorded(manifest.name, 'presence');
    return records;
  }

  /** Records whether a member has said goodbye, so that people see it after a restart too. */
  #setGoodbye(peer: string, saidGoodbye: boolean): void {
    const known = this.#peers.get(peer);
    if (known?.saidGoodbye === saidGoodbye) return;
    this.#context.deps.store.peers.setGoodbye(this.#context.job, peer, saidGoodbye);
    if (known) this.#peers.set(peer, { ...known, saidGoodbye });
  }

  #counting<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      this.countRefusal(error);
      throw error;
    }
  }

  #newestRound(): number {
    const { job, deps } = this.#context;
    return deps.store.rounds.newestNumber(job);
  }
}

/** Checks a node's clock. @throws SwarmError CLOCK_OFF if the coordinator would refuse the node's heartbeats */
function checkClock(sentAt: number, now: number): void {
  const offMs = sentAt - now;
  if (Math.abs(offMs) <= CLOCK_SKEW_MS) return;
  const seconds = Math.round(Math.abs(offMs) / 1000);
  throw coordinatorError(
    'CLOCK_OFF',
    `the node's clock is ${seconds} s ${offMs > 0 ? 'ahead of' : 'behind'} the coordinator's (limit ${CLOCK_SKEW_MS / 1000} s)`,
    { offMs, limitMs: CLOCK_SKEW_MS },
  );
}
