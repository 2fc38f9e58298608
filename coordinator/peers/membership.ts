import { isSwarmError } from '../../common/errors.ts';
import { type Quota, RateLimiter } from '../../common/rate-limiter.ts';
import { CLOCK_SKEW_MS, ROUND_PEERS } from '../../protocol/limits.ts';
import type { RunContext } from '../context.ts';
import { coordinatorError } from '../errors.ts';
import type { Receipts } from '../record/receipts.ts';
import type { RoundDriver } from '../record/round-driver.ts';
import { isOver } from '../round/round-machine.ts';
import type { StoredPeer } from '../store/store.ts';
import { checkAdmission } from './admission.ts';
import { memberToEvict } from './eviction.ts';
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

/** A node's request to join. */
export interface JoinRequest {
  readonly invite: string | null;
  readonly name: string;
  readonly agent: string;
  readonly engine: string;
  /** Time on the node's own clock. */
  readonly sentAt: number;
}

const JOIN_REFUSALS = ['BUSY', 'CLOCK_OFF', 'JOB_FULL', 'NOT_ADMITTED'] as const;

/** The nodes that a job has admitted. Tells the job's state machine when a node comes or goes. */
export class Membership {
  readonly liveness: Liveness;
  readonly #context: RunContext;
  readonly #driver: RoundDriver;
  readonly #receipts: Receipts;
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
    /** A member waits for the round after `round`. */
    onIdle: (peer: string, round: number) => void;
  }) {
    this.#context = deps.context;
    this.#driver = deps.driver;
    this.#receipts = deps.receipts;
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
   * @throws SwarmError CLOCK_OFF, NOT_ADMITTED
   */
  checkJoin(peer: string, { sentAt, invite }: JoinRequest): 'member' | 'newcomer' {
    return this.#counting(() => {
      const { stored, deps } = this.#context;
      checkClock(sentAt, deps.clock.now());
      if (this.#peers.has(peer)) return 'member';
      checkAdmission(stored.admission, stored.token, { peer, invite });
      return 'newcomer';
    });
  }

  /**
   * Admits a node, or updates the description of a member.
   * @throws SwarmError CLOCK_OFF, NOT_ADMITTED, JOB_FULL
   */
  join(peer: string, request: JoinRequest): void {
    this.checkJoin(peer, request);
    this.#counting(() => this.#join(peer, request));
    this.#context.deps.meter.join(this.#context.manifest.name, 'ok');
  }

  #join(peer: string, { name, agent, engine }: JoinRequest): void {
    const { job, manifest, deps } = this.#context;
    const known = this.#peers.get(peer);
    if (!known && this.#peers.size >= ADMITTED_PEERS && !this.#evict()) {
      const message = `all ${ADMITTED_PEERS} places of the job are taken by nodes that train`;
      throw coordinatorError('JOB_FULL', message, { limit: ADMITTED_PEERS });
    }
    const changed = known?.name !== name || known.agent !== agent || known.engine !== engine;
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
        invite: known?.invite ?? null,
        role: known?.role ?? 'contributor',
      };
      this.#peers.set(peer, entry);
      if (!known) this.#joinedRounds.set(peer, this.#newestRound());
      this.#driver.transact(() => deps.store.peers.admit(job, entry));
    }
    if (!isOver(this.#driver.state)) this.liveness.join(peer);
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
    const { deps } = this.#context;
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
    this.remove(peer);
    deps.log.info({ peer }, 'member-evicted');
    return true;
  }

  /** Removes a member, and forgets what it delivered. Does nothing if the peer is no member. */
  remove(peer: string): void {
    const { job, deps } = this.#context;
    if (!this.#peers.has(peer)) return;
    this.liveness.forget(peer);
    this.#driver.transact(() => deps.store.peers.remove(job, peer));
    this.#peers.delete(peer);
    this.#joinedRounds.delete(peer);
    this.#receipts.forget(peer);
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

  #ready(peer: string): void {
    const ready = presentPeer(this.#context, { peer, speed: this.get(peer)?.speed ?? 0 });
    this.#driver.dispatch({ type: 'peer-ready', peer, ...ready });
  }

  #gone(peer: string, reason: 'left' | 'silent'): void {
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
    return deps.store.rounds.newest(job, 1)[0]?.round ?? 0;
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
