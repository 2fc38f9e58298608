import { isSwarmError, type SwarmError } from '../../common/errors.ts';
import { type Quota, RateLimiter } from '../../common/limits/rate-limiter.ts';
import { CLOCK_SKEW_MS } from '../../protocol/limits.ts';
import type { RunContext } from '../context.ts';
import { coordinatorError } from '../errors.ts';
import type { Receipts } from '../record/receipts.ts';
import type { RoundDriver } from '../record/round-driver.ts';
import { isOver } from '../round/job-phase.ts';
import type { StoredPeer } from '../store/store.ts';
import type { Ledger } from '../trust/ledger.ts';
import { whoIs } from '../trust/who.ts';
import { JOIN_REFUSALS } from './admission.ts';
import { memberToEvict } from './eviction.ts';
import type { Grant } from './invite-grant.ts';
import { Invites } from './invites.ts';
import type { Hold, Liveness } from './liveness.ts';
import { MemberList } from './member-list.ts';
import { Presence } from './presence.ts';
import { Processes } from './processes.ts';
import { clockHold, RefusedNodes } from './refused-nodes.ts';
import { Removals } from './removals.ts';

/** Maximum number of members of a job. It limits the memory that strangers can make the coordinator use. */
export const ADMITTED_PEERS = 4096;

/**
 * Limit on stored changes of one member's description. The name, version or engine of a node can change when its owner
 * restarts the node. Each stored change is a write to disk, so changes above the limit are not stored. The node still
 * takes part.
 */
export const DESCRIPTIONS: Quota = { calls: 4, perMs: 10 * 60_000 };

/** A node's request to join. */
export interface JoinRequest {
  readonly invite: string | null;
  readonly name: string;
  readonly agent: string;
  readonly engine: string;
  /** Time on the node's own clock. */
  readonly sentAt: number;
}

/** Admits nodes and readers to a job. If the job is full, gives the place of an idle member to a new node. */
export class Membership {
  readonly list: MemberList;
  readonly liveness: Liveness;
  readonly invites: Invites;
  readonly removals: Removals;
  readonly processes: Processes;
  /** Nodes that cannot join because of their clocks, and members whose heartbeats are refused. */
  readonly refused: RefusedNodes;
  readonly #context: RunContext;
  readonly #driver: RoundDriver;
  readonly #receipts: Receipts;
  readonly #ledger: Ledger;
  readonly #presence: Presence;
  /**
   * Limits how often a member's description is stored. The keys of the limiter are peer ids. The limiter
   * remembers as many keys as a job can have members.
   */
  readonly #descriptions: RateLimiter;

  constructor(deps: {
    context: RunContext;
    driver: RoundDriver;
    receipts: Receipts;
    ledger: Ledger;
    /**
     * Called when a member waits for the round after `round`, because its update of `round` has been delivered or is
     * lost.
     */
    onIdle: (peer: string, round: number) => void;
  }) {
    this.#context = deps.context;
    this.#driver = deps.driver;
    this.#receipts = deps.receipts;
    this.#ledger = deps.ledger;
    this.list = new MemberList(deps);
    this.invites = new Invites(deps);
    this.processes = new Processes({ ...deps, members: this.list });
    this.refused = new RefusedNodes(deps.context.deps);
    const { processes, refused } = this;
    this.#presence = new Presence({ ...deps, members: this.list, processes, refused });
    this.liveness = this.#presence.liveness;
    const { invites, liveness } = this;
    this.removals = new Removals({ ...deps, members: this.list, invites, liveness });
    this.#descriptions = new RateLimiter(deps.context.deps);
  }

  /** Records when the members were last seen, because the coordinator stops. */
  recordLastSigns(): void {
    this.#presence.recordLastSigns();
  }

  /** Remembers a member's measured speed in tokens per second. The caller must have stored the speed. */
  setSpeed(peer: string, speed: number): void {
    this.list.change(peer, { speed });
  }

  /**
   * Checks whether a node may join. A node that is not a member yet is checked before it waits in line (see
   * `Newcomers`), and again afterwards.
   * @throws SwarmError CLOCK_OFF, NOT_ADMITTED, INVITE_REVOKED, INVITE_EXPIRED, INVITE_USED, BANNED
   */
  checkJoin(peer: string, request: JoinRequest): 'member' | 'newcomer' {
    this.#counting(() => this.#check(peer, request));
    return this.list.has(peer) ? 'member' : 'newcomer';
  }

  #check(peer: string, { sentAt, invite, name, engine }: JoinRequest): Grant {
    // Check the invite first, so that the operator sees only nodes that may join when their clocks are right.
    const grant = this.#admitted(peer, invite);
    const offMs = sentAt - this.#context.deps.clock.now();
    if (Math.abs(offMs) > CLOCK_SKEW_MS) {
      const hold = clockHold(offMs);
      this.#presence.noteRefusal(peer, { name, engine, hold });
      throw clockOff(offMs, hold);
    }
    this.refused.forget(peer);
    return grant;
  }

  #admitted(peer: string, token: string | null): Grant {
    const grant = this.invites.check(peer, token, this.list.get(peer));
    this.#ledger.bans.check(whoIs({ peer, invite: grant.invite }));
    return grant;
  }

  /**
   * Admits a peer that only reads. Such a peer asks for the manifest and the newest head, and fetches a
   * checkpoint.
   * @throws SwarmError NOT_ADMITTED, INVITE_REVOKED, INVITE_EXPIRED, INVITE_USED, BANNED
   */
  admitReader(peer: string, token: string | null): void {
    this.#admitted(peer, token);
    this.invites.admitReader(peer, token, this.list.get(peer));
  }

  /**
   * Returns whether a peer is a member or an admitted reader. Such a peer may read the job even if the job is not open.
   */
  mayRead(peer: string): boolean {
    if (this.list.has(peer)) return true;
    const who = whoIs({ peer, invite: this.invites.inviteOf(peer) });
    return this.invites.isReader(peer) && !this.#ledger.bans.isBanned(who);
  }

  /** A process of a member leaves the job. The member stays if another process with the same key continues. */
  leave(peer: string, run: string | undefined): void {
    if (this.processes.runs.end(peer, run)) this.liveness.leave(peer);
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
    const known = this.list.get(peer);
    if (!known && this.list.size >= ADMITTED_PEERS && !this.#evict()) {
      const message = `all ${ADMITTED_PEERS} places of the job are taken by nodes that train`;
      throw coordinatorError('JOB_FULL', message, { limit: ADMITTED_PEERS });
    }
    const { invite, role } = grant;
    const told = { name, agent, engine, invite, role };
    const changed = Object.entries(told).some(
      ([field, value]) => known?.[field as keyof typeof told] !== value,
    );
    if (known && changed && !this.#descriptions.take(peer, DESCRIPTIONS)) {
      deps.meter.unrecorded(manifest.name, 'description');
    } else if (changed) {
      const unknown = { joinedAt: deps.clock.now(), speed: 0, saidGoodbye: false, seenAt: null };
      const entry: StoredPeer = { peer, ...(known ?? unknown), ...told };
      this.list.set(entry);
      if (!known) this.#receipts.recount(peer);
      this.#driver.transact(() => {
        this.invites.bind(peer, grant);
        deps.store.peers.admit(job, entry);
      });
      this.#ledger.standings.memberChanged(peer);
      if (known && known.role !== role) this.#presence.roleChanged(peer);
    }
    if (!isOver(this.#driver.state)) this.liveness.join(peer);
  }

  /** Counts an error as the refusal of a request to join. */
  countRefusal(error: unknown): void {
    const { manifest, deps } = this.#context;
    for (const code of JOIN_REFUSALS) if (isSwarmError(error, code)) deps.meter.join(manifest.name, code);
  }

  /** Removes a member, so that a new node gets its place. Returns false if all members must stay. */
  #evict(): boolean {
    const { job, deps } = this.#context;
    const { current, round } = this.#driver.state;
    const members = this.list.all().map(({ peer, joinedAt }) => ({
      peer,
      joinedRound: this.list.joinedRound(peer),
      seenAt: this.liveness.seenAt(peer) ?? joinedAt,
      // A member that takes no work must not keep its place in a full job by its heartbeats alone.
      present: this.liveness.get(peer)?.hold === null,
      assigned: current?.assigned.includes(peer) ?? false,
      delivered: this.#receipts.lastDelivery(peer),
    }));
    const peer = memberToEvict(members, round);
    if (peer === null) return false;
    this.liveness.forget(peer);
    this.#driver.transact(() => deps.store.peers.remove(job, peer));
    this.list.delete(peer);
    this.#ledger.standings.memberChanged(peer);
    this.#receipts.forget(peer);
    deps.log.info({ peer }, 'member-evicted');
    return true;
  }

  #counting<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      this.countRefusal(error);
      throw error;
    }
  }
}

function clockOff(offMs: number, { detail }: Hold): SwarmError {
  return coordinatorError(
    'CLOCK_OFF',
    `the node's clock is ${detail}; the maximum difference is ${CLOCK_SKEW_MS / 1000} s`,
    { offMs, limitMs: CLOCK_SKEW_MS },
  );
}
