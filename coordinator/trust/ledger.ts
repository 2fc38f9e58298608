import { formatDuration } from '../../common/text.ts';
import type { JobEventBody } from '../../monitor/job-events.ts';
import { STALE_ROUNDS } from '../../protocol/limits.ts';
import type { RunContext } from '../context.ts';
import { coordinatorError } from '../errors.ts';
import { BELIEF_UPDATES } from '../merge/belief.ts';
import { personOf } from '../peers/person.ts';
import type { PresentPeer, Standing } from '../round/plan.ts';
import type { StoredBan, StoredPeer, StoredStrike } from '../store/store.ts';
import { type JudgedUpdate, misdeedsOf } from './misdeeds.ts';
import { BAN_MS, MOST_SUSPENSIONS, type Sentence, sentenceOf, standingIn } from './standing.ts';

/** Score of an update that was not scored. */
const UNSCORED = { figures: null, share: null, belief: 0, isHarmful: false } as const;

/** Standings with which a peer gets an assignment. */
const ASSIGNABLE: readonly Standing[] = ['good', 'probation'];

/** Takes the events of a transaction, and actions that follow when the transaction is durable. */
export interface Announcements {
  event(body: JobEventBody): void;
  afterwards(action: () => void): void;
}

/** A peer, and who answers for it. */
export interface Who {
  readonly peer: string;
  readonly person: string;
}

/** A misdeed to record. */
export type NewStrike = Pick<StoredStrike, 'kind' | 'round' | 'digest' | 'figures'>;

/** The standing of a peer in a job. */
export interface PeerStanding {
  readonly standing: Standing;
  /** The last round of a probation or suspension; null otherwise. */
  readonly untilRound: number | null;
  /** The ban, if the peer is banned. */
  readonly ban: StoredBan | null;
}

/**
 * A job's record of misdeeds. All that follows from them is computed from the store, so a restart changes nothing.
 * Misdeeds belong to the person who answers for a peer (see `personOf`). They therefore count against all peers of the
 * same personal invite.
 */
export class Ledger {
  readonly #context: RunContext;
  /** Peers and persons with strikes that were not pardoned. All others are in good standing, or banned by the operator. */
  #struck: Set<string>;
  /** Peers that were present lately: who answers for each, and what follows from the strikes, if there are any. */
  readonly #present = new Map<string, { who: Who; sentence: Sentence | null }>();

  constructor(deps: { context: RunContext }) {
    this.#context = deps.context;
    this.#struck = this.#store.strikes.struck(this.#context.job);
  }

  /**
   * Records a misdeed of a peer, and the suspension or ban that follows from it. Does nothing if the misdeed is recorded
   * already.
   * @param outbox takes the events of the transaction that also records the evidence
   */
  strike(peer: string, strike: NewStrike, outbox: Announcements): void {
    const { job, deps } = this.#context;
    const who = this.who(peer);
    const before = this.#sentence(who);
    const foundIn = this.#newestRound();
    const at = deps.clock.now();
    if (!this.#store.strikes.insert(job, { ...who, ...strike, foundIn, at })) return;
    this.#noteStrike(who);
    const after = this.#sentence(who);
    const { kind, round } = strike;
    outbox.event({ type: 'struck', peer, round, kind, standing: standingIn(after, foundIn + 1) });
    if (after.suspendedUntil === before.suspendedUntil) return;
    if (after.suspensions > MOST_SUSPENSIONS) {
      const reason = `strikes again after ${MOST_SUSPENSIONS} suspensions`;
      this.ban(who, { cause: 'strikes', job, reason, until: at + BAN_MS }, outbox);
    } else {
      const { suspendedUntil: until, suspensions } = after;
      outbox.event({ type: 'suspended', peer, round: foundIn, until, suspensions });
    }
  }

  /**
   * Records the misdeeds among the updates of a closed round, once per round.
   * @param outliers updates that the merge refused because of their norms
   */
  judge(round: number, outliers: readonly { peer: string; round: number }[], outbox: Announcements): void {
    const { job } = this.#context;
    const { rounds } = this.#store;
    if (rounds.isJudged(job, round)) return;
    const updates = this.#judgedUpdates(round, outliers);
    const { misdeeds, faulty, isShared, isClear } = misdeedsOf(updates);
    rounds.setJudged(job, round, isClear);
    if (isShared) outbox.event({ type: 'shared-fault', round, faulty, updates: updates.length });
    else for (const { peer, ...misdeed } of misdeeds) this.strike(peer, misdeed, outbox);
  }

  /**
   * Bans the author of two different updates that it signed for one round, for good and from all jobs. The store has
   * both signed updates (`conflicts`).
   */
  convict(peer: string, { round, digest }: { round: number; digest: string }, outbox: Announcements): void {
    const who = this.who(peer);
    const { job, deps } = this.#context;
    const strike = { ...who, kind: 'conflicting', round, digest, figures: {} } as const;
    this.#store.strikes.insert(job, { ...strike, foundIn: this.#newestRound(), at: deps.clock.now() });
    this.#noteStrike(who);
    outbox.event({ type: 'struck', peer, round, kind: 'conflicting', standing: 'banned' });
    const reason = `it signed two different updates for round ${round}`;
    this.ban(who, { cause: 'proof', job: null, reason, until: null }, outbox);
  }

  /** Bans a person, from all jobs or from one. @param outbox takes the events of the transaction that records the cause */
  ban(
    { peer, person }: Who,
    ban: Pick<StoredBan, 'cause' | 'job' | 'reason' | 'until'>,
    outbox: Announcements,
  ): void {
    const { deps, onBan } = this.#context;
    const { cause, reason, until } = ban;
    this.#store.bans.insert({ peer, person, ...ban, at: deps.clock.now() });
    outbox.event({ type: 'banned', peer, cause, reason, until });
    outbox.afterwards(() => onBan({ peer, person, job: ban.job }));
  }

  /**
   * Clears a person's strikes in this job, and lifts its bans.
   * @param options `onlyJob`: leaves bans from all jobs in force
   */
  pardon(who: Who, { onlyJob }: { onlyJob: boolean }, outbox: Announcements): void {
    const { job, deps } = this.#context;
    const at = deps.clock.now();
    const strikes = this.#store.strikes.pardon(job, who, at);
    const bans = this.#store.bans.pardon(who, onlyJob ? job : null, at);
    this.#struck = this.#store.strikes.struck(job);
    this.#present.clear();
    if (strikes + bans > 0) outbox.event({ type: 'pardoned', peer: who.peer, strikes, bans });
  }

  /** Checks that a person is not banned. @throws SwarmError BANNED */
  checkBan(who: Who): void {
    const { job, deps } = this.#context;
    const ban = this.#store.bans.find(job, who, deps.clock.now());
    if (ban !== null) throw bannedError(ban, deps.clock.now());
  }

  isBanned(who: Who): boolean {
    const { job, deps } = this.#context;
    return this.#store.bans.find(job, who, deps.clock.now()) !== null;
  }

  /** Returns a peer and who answers for it. A former member is still bound to the personal invite that it used last. */
  who(peer: string): Who {
    const { job } = this.#context;
    const member = this.#store.peers.find(job, peer);
    if (member !== null) return whoIs(member);
    return whoIs({ peer, invite: this.#store.invites.inviteOf(job, peer) });
  }

  /** Returns whether a peer has strikes that count. */
  hasStruck(peer: string): boolean {
    return this.#struck.has(peer);
  }

  /** Returns the standing of a member in the next round. A member is never banned. */
  standingOfMember(member: Pick<StoredPeer, 'peer' | 'invite'>): Standing {
    const who = whoIs(member);
    return this.#isStruck(who) ? standingIn(this.#sentence(who), this.#newestRound() + 1) : 'good';
  }

  /** Returns the standing of a peer in the next round. */
  standingOf(who: Who): PeerStanding {
    const { job, deps } = this.#context;
    const ban = this.#store.bans.find(job, who, deps.clock.now());
    if (ban !== null) return { standing: 'banned', untilRound: null, ban };
    const sentence = this.#sentence(who);
    const standing = standingIn(sentence, this.#newestRound() + 1);
    const { suspendedUntil, probationUntil } = sentence;
    const until = { good: null, probation: probationUntil, suspended: suspendedUntil };
    return { standing, untilRound: until[standing], ban: null };
  }

  /** Returns what the receipt of an update says about the strike that followed from it; empty if none did. */
  noteOn({ peer, round }: { peer: string; round: number }): string {
    const who = this.who(peer);
    const strikes = this.#counting(who);
    const place = strikes.findIndex((strike) => strike.peer === peer && strike.round === round);
    if (place < 0) return '';
    const { standing, untilRound } = this.standingOf(who);
    const end = untilRound === null ? '' : ` up to round ${untilRound}`;
    return `; this is strike ${place + 1}, and the standing of the node is now: ${standing}${end}`;
  }

  /** Returns what a member learns of its own standing. */
  toldTo(peer: string): {
    kind: 'good' | 'probation' | 'suspended';
    untilRound: number | null;
    strikes: number;
  } {
    const who = this.who(peer);
    const { standing, untilRound } = this.standingOf(who);
    // A banned peer is no member.
    const kind = standing === 'banned' ? 'suspended' : standing;
    return { kind, untilRound, strikes: this.#counting(who).length };
  }

  /**
   * Returns the present peers with their standing in the next round. If the others are fewer than the job needs,
   * suspended peers count as on probation. Otherwise, suspensions could stop a job, and they would never end, because
   * they are counted in rounds.
   * @returns `present` itself if nothing has changed
   */
  withStandings(present: Readonly<Record<string, PresentPeer>>): Readonly<Record<string, PresentPeer>> {
    const peers = Object.keys(present);
    const next = this.#newestRound() + 1;
    const standingOf = (peer: string): Standing => {
      const sentence = this.#struck.size === 0 ? null : this.#sentenceOfPresent(peer);
      return sentence === null ? 'good' : standingIn(sentence, next);
    };
    const standings = new Map(peers.map((peer) => [peer, standingOf(peer)] as const));
    const assignable = peers.filter((peer) => ASSIGNABLE.includes(standings.get(peer)!)).length;
    const isShort = assignable < this.#context.manifest.rounds.minPeers;
    const changed = peers.flatMap((peer) => {
      const own = standings.get(peer)!;
      const standing = own === 'suspended' && isShort ? 'probation' : own;
      return standing === present[peer]!.standing ? [] : [[peer, { ...present[peer]!, standing }] as const];
    });
    return changed.length === 0 ? present : { ...present, ...Object.fromEntries(changed) };
  }

  /** Notes that a member has joined, perhaps with another invite, or that it has lost its place. */
  memberChanged(peer: string): void {
    this.#present.delete(peer);
  }

  #sentenceOfPresent(peer: string): Sentence | null {
    const known = this.#present.get(peer);
    if (known) return known.sentence;
    const who = this.who(peer);
    const sentence = this.#isStruck(who) ? this.#sentence(who) : null;
    this.#present.set(peer, { who, sentence });
    return sentence;
  }

  #isStruck({ peer, person }: Who): boolean {
    return this.#struck.has(peer) || this.#struck.has(person);
  }

  /** Notes that a person has a new strike. */
  #noteStrike({ peer, person }: Who): void {
    this.#struck.add(peer).add(person);
    for (const [key, { who }] of this.#present) {
      if (who.peer === peer || who.person === person) this.#present.delete(key);
    }
  }

  get #store() {
    return this.#context.deps.store;
  }

  #sentence(who: Who): Sentence {
    return sentenceOf(this.#counting(who));
  }

  #counting(who: Who): StoredStrike[] {
    const strikes = this.#store.strikes.of(this.#context.job, who);
    return strikes.filter(({ pardonedAt }) => pardonedAt === null);
  }

  #newestRound(): number {
    return this.#store.rounds.newestNumber(this.#context.job);
  }

  #judgedUpdates(round: number, outliers: readonly { peer: string; round: number }[]): JudgedUpdate[] {
    const { job } = this.#context;
    const { scores, updates, rounds, strikes } = this.#store;
    const assignments = new Map(
      rounds.newest(job, STALE_ROUNDS + 1).map((facts) => [facts.round, facts.assignments]),
    );
    const known = scores.ofMerge(job, round);
    const unclear = rounds.newestUnclear(job);
    return updates.selected(job, round).map(({ peer, round: made, digest }): JudgedUpdate => {
      const isSame = (other: { peer: string; round: number }): boolean =>
        other.peer === peer && other.round === made;
      const { figures, share, belief, isHarmful } = known.find(isSame) ?? UNSCORED;
      const disbelief = strikes.of(job, this.who(peer)).filter(({ kind }) => kind === 'disbelief');
      const after = Math.max(unclear, ...disbelief.map(({ foundIn }) => foundIn));
      return {
        ...{ peer, round: made, digest, figures, share, belief, isHarmful },
        steps: assignments.get(made)?.find((one) => one.peer === peer)?.steps ?? 1,
        isOutlier: outliers.some(isSame),
        earlier: scores.shares(job, peer, { before: round, limit: BELIEF_UPDATES }),
        scoredSince: scores.countShares(job, peer, { after, last: round }),
      };
    });
  }
}

/** Returns a member and who answers for it. */
export function whoIs(member: Pick<StoredPeer, 'peer' | 'invite'>): Who {
  return { peer: member.peer, person: personOf(member) };
}

/** Returns whether strikes and bans of one peer also count against the other. */
export function isSamePerson(one: Who, other: Who): boolean {
  return one.peer === other.peer || one.person === other.person;
}

/** Returns the error that a banned node gets. */
export function bannedError({ reason, until }: StoredBan, now: number) {
  const end =
    until === null
      ? 'for good'
      : `until ${new Date(until).toISOString()}, which is in ${formatDuration((until - now) / 1000)}`;
  return coordinatorError('BANNED', `this node is banned ${end}: ${reason}`, { until, reason });
}
