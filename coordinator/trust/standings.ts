import type { RunContext } from '../context.ts';
import type { PresentPeer, Standing } from '../round/plan.ts';
import type { StoredBan, StoredPeer, StoredStrike } from '../store/store.ts';
import type { UpdateKey } from '../store/update-key.ts';
import type { Bans } from './bans.ts';
import { type Sentence, sentenceOf, standingIn } from './standing.ts';
import { type Who, whoIs } from './who.ts';

/** Standings with which a peer gets an assignment. */
const ASSIGNABLE: readonly Standing[] = ['good', 'probation'];

/** The standing of a peer in a job. */
export interface PeerStanding {
  readonly standing: Standing;
  /** The last round of a probation or suspension; null otherwise. */
  readonly untilRound: number | null;
  /** The ban, if the peer is banned. */
  readonly ban: StoredBan | null;
}

/**
 * The standing of each peer in the next round of a job. Standings are computed from the stored strikes and bans, so
 * they are the same after a restart.
 */
export class Standings {
  readonly #context: RunContext;
  readonly #bans: Bans;
  /**
   * Peers and persons with strikes that were not pardoned. All others have the standing good, unless they are banned.
   */
  #struck: Set<string>;
  /** Cache for peers that were present lately: the person, and the consequences of the person's strikes, if any. */
  readonly #present = new Map<string, { who: Who; sentence: Sentence | null }>();

  constructor(deps: { context: RunContext; bans: Bans }) {
    this.#context = deps.context;
    this.#bans = deps.bans;
    this.#struck = this.#store.strikes.struck(this.#context.job);
  }

  /**
   * Returns a peer and the person who answers for it. A former member belongs to the person of the personal invite that
   * it used last.
   */
  who(peer: string): Who {
    const { job } = this.#context;
    const member = this.#store.peers.find(job, peer);
    return whoIs(member ?? { peer, invite: this.#store.invites.inviteOf(job, peer) });
  }

  /** Returns whether a peer has strikes that were not pardoned. */
  hasStruck(peer: string): boolean {
    return this.#struck.has(peer);
  }

  /** Returns the consequences of a person's strikes. */
  sentence(who: Who): Sentence {
    return sentenceOf(this.#counting(who));
  }

  /** Returns the standing of a member. A member is never banned. */
  ofMember(member: Pick<StoredPeer, 'peer' | 'invite'>): Standing {
    const who = whoIs(member);
    return this.#isStruck(who) ? standingIn(this.sentence(who), this.#nextRound()) : 'good';
  }

  /** Returns the number of a member's strikes that were not pardoned. */
  strikesOf(member: Pick<StoredPeer, 'peer' | 'invite'>): number {
    const who = whoIs(member);
    return this.#isStruck(who) ? this.#counting(who).length : 0;
  }

  of(who: Who): PeerStanding {
    const ban = this.#bans.find(who);
    if (ban !== null) return { standing: 'banned', untilRound: null, ban };
    const sentence = this.sentence(who);
    const standing = standingIn(sentence, this.#nextRound());
    const { suspendedUntil, probationUntil } = sentence;
    const until = { good: null, probation: probationUntil, suspended: suspendedUntil };
    return { standing, untilRound: until[standing], ban: null };
  }

  /** Returns the text about a strike in the receipt of an update; empty if no strike followed from the update. */
  noteOn({ peer, round }: UpdateKey): string {
    const who = this.who(peer);
    const place = this.#counting(who).findIndex((strike) => strike.peer === peer && strike.round === round);
    if (place < 0) return '';
    const { standing, untilRound } = this.of(who);
    const end = untilRound === null ? '' : ` up to round ${untilRound}`;
    return `this is strike ${place + 1}, and the standing of the node is now: ${standing}${end}`;
  }

  /** Returns the standing that the coordinator reports to a member. */
  reportedTo(peer: string): {
    kind: 'good' | 'probation' | 'suspended';
    untilRound: number | null;
    strikes: number;
  } {
    const who = this.who(peer);
    const { standing, untilRound } = this.of(who);
    // A banned peer cannot be a member, so the standing is never `banned` here.
    const kind = standing === 'banned' ? 'suspended' : standing;
    return { kind, untilRound, strikes: this.#counting(who).length };
  }

  /**
   * Returns the present peers with their standing. If fewer than minPeers of them may get an assignment, suspended
   * peers count as on probation. Without this rule, suspensions could stop the job. The suspensions would then never
   * end, because their duration is a number of rounds.
   * @returns `present` itself if nothing has changed
   */
  applyTo(present: Readonly<Record<string, PresentPeer>>): Readonly<Record<string, PresentPeer>> {
    const peers = Object.keys(present);
    const next = this.#nextRound();
    const standingOf = (peer: string): Standing => {
      const sentence = this.#struck.size === 0 ? null : this.#sentenceOfPresent(peer);
      return sentence === null ? 'good' : standingIn(sentence, next);
    };
    const standings = new Map(peers.map((peer) => [peer, standingOf(peer)] as const));
    const assignable = peers.filter((peer) => ASSIGNABLE.includes(standings.get(peer)!)).length;
    const isShort = assignable < this.#context.settings.newest.minPeers;
    const changed = peers.flatMap((peer) => {
      const own = standings.get(peer)!;
      const standing = own === 'suspended' && isShort ? 'probation' : own;
      return standing === present[peer]!.standing ? [] : [[peer, { ...present[peer]!, standing }] as const];
    });
    return changed.length === 0 ? present : { ...present, ...Object.fromEntries(changed) };
  }

  /** Updates the cache after a new strike of a person. */
  noteStrike({ peer, person }: Who): void {
    this.#struck.add(peer).add(person);
    for (const [key, { who }] of this.#present) {
      if (who.peer === peer || who.person === person) this.#present.delete(key);
    }
  }

  /** Updates the cache after a pardon. */
  notePardon(): void {
    this.#struck = this.#store.strikes.struck(this.#context.job);
    this.#present.clear();
  }

  /**
   * Forgets the cached standing of a peer that has joined, perhaps with another invite, or that is no longer a
   * member.
   */
  memberChanged(peer: string): void {
    this.#present.delete(peer);
  }

  #sentenceOfPresent(peer: string): Sentence | null {
    const known = this.#present.get(peer);
    if (known) return known.sentence;
    const who = this.who(peer);
    const sentence = this.#isStruck(who) ? this.sentence(who) : null;
    this.#present.set(peer, { who, sentence });
    return sentence;
  }

  #isStruck({ peer, person }: Who): boolean {
    return this.#struck.has(peer) || this.#struck.has(person);
  }

  #counting(who: Who): StoredStrike[] {
    const strikes = this.#store.strikes.of(this.#context.job, who);
    return strikes.filter(({ pardonedAt }) => pardonedAt === null);
  }

  #nextRound(): number {
    return this.#store.rounds.newestNumber(this.#context.job) + 1;
  }

  get #store() {
    return this.#context.deps.store;
  }
}
