import { STALE_ROUNDS } from '../../protocol/limits.ts';
import { BELIEF_UPDATES } from '../../verify/scores/belief.ts';
import type { RunContext } from '../context.ts';
import type { StoredBan, StoredStrike } from '../store/store.ts';
import { isSameUpdate, type UpdateKey } from '../store/update-key.ts';
import { type Announcements, Bans } from './bans.ts';
import { type JudgedUpdate, misdeedsOf } from './misdeeds.ts';
import { BAN_MS, MAX_SUSPENSIONS, standingIn } from './standing.ts';
import { Standings } from './standings.ts';
import type { Who } from './who.ts';

/** Values of an update that has no score. */
const UNSCORED = { figures: null, share: null, belief: 0, isHarmful: false } as const;

/** Author, round and payload of an update. */
type NamedUpdate = Pick<JudgedUpdate, 'peer' | 'round' | 'digest'>;

/** A misdeed to record. */
export type NewStrike = Pick<StoredStrike, 'kind' | 'round' | 'digest' | 'figures'>;

/**
 * Records the misdeeds in a job. A misdeed of a peer counts against the person who answers for the peer (see
 * `personOf`), and therefore against all peers of the same personal invite.
 */
export class Ledger {
  readonly bans: Bans;
  readonly standings: Standings;
  readonly #context: RunContext;

  constructor(deps: { context: RunContext }) {
    this.#context = deps.context;
    this.bans = new Bans(deps);
    this.standings = new Standings({ ...deps, bans: this.bans });
  }

  /**
   * Records a misdeed of a peer, and the suspension or ban that follows from it. Does nothing if the misdeed is
   * recorded already.
   * @param outbox outbox of the transaction that also records the evidence
   */
  strike(peer: string, strike: NewStrike, outbox: Announcements): void {
    const { job, deps } = this.#context;
    const who = this.standings.who(peer);
    const before = this.standings.sentence(who);
    const foundIn = this.#newestRound();
    const at = deps.clock.now();
    if (!this.#store.strikes.insert(job, { ...who, ...strike, foundIn, at })) return;
    this.standings.noteStrike(who);
    const after = this.standings.sentence(who);
    const { kind, round } = strike;
    outbox.event({ type: 'struck', peer, round, kind, standing: standingIn(after, foundIn + 1) });
    if (after.suspendedUntil === before.suspendedUntil) return;
    if (after.suspensions > MAX_SUSPENSIONS) {
      const reason = `new strikes after ${MAX_SUSPENSIONS} suspensions`;
      this.bans.impose(who, { cause: 'strikes', job, reason, until: at + BAN_MS }, outbox);
    } else {
      const { suspendedUntil: until, suspensions } = after;
      outbox.event({ type: 'suspended', peer, round: foundIn, until, suspensions });
    }
  }

  /**
   * Remembers a signed payload that does not decode. It is judged at the end of the round, together with the other
   * updates, because only then can the coordinator see whether many nodes share the fault.
   */
  noteBadPayload(update: NamedUpdate): void {
    this.#store.strikes.noteBadPayload(this.#context.job, update);
  }

  /**
   * Records the misdeeds among the updates of a merge, once per round.
   * @param outliers updates that the merge refused because of their norms
   */
  judge(round: number, outliers: readonly UpdateKey[], outbox: Announcements): void {
    const { job } = this.#context;
    const { rounds } = this.#store;
    if (rounds.isJudged(job, round)) return;
    const merged = this.#mergedUpdates(round, outliers);
    // A round without updates, such as a roll-back of the operator, does not show whether many nodes send bad payloads.
    // So the bad payloads wait for the end of the next round.
    const isClear = merged.length > 0 && this.#judge(round, merged, outbox);
    rounds.setJudged(job, round, isClear);
  }

  /**
   * Records misdeeds at the end of a round without a merge. Only payloads that do not decode count as
   * misdeeds.
   */
  judgeUnmerged(round: number, delivered: readonly NamedUpdate[], outbox: Announcements): void {
    const updates = delivered.map((update) => this.#unscored(round, update));
    this.#judge(round, updates, outbox);
  }

  /** Records the misdeeds among the updates of a round. Returns whether the scores of the round are clear. */
  #judge(round: number, delivered: readonly JudgedUpdate[], outbox: Announcements): boolean {
    const { job } = this.#context;
    const bad = this.#store.strikes
      .takeBadPayloads(job)
      .map((update) => ({ ...this.#unscored(round, update), isBadPayload: true }));
    const updates = [...delivered, ...bad];
    const { misdeeds, faulty, isShared, isClear } = misdeedsOf(updates);
    if (isShared) outbox.event({ type: 'shared-fault', round, faulty, updates: updates.length });
    else for (const { peer, ...misdeed } of misdeeds) this.strike(peer, misdeed, outbox);
    return isClear;
  }

  /**
   * Bans a peer permanently from all jobs, because it signed two different updates for one round. The store keeps both
   * signed updates as proof (`conflicts`).
   */
  convict(peer: string, { round, digest }: { round: number; digest: string }, outbox: Announcements): void {
    const who = this.standings.who(peer);
    const { job, deps } = this.#context;
    const strike = { ...who, kind: 'conflicting', round, digest, figures: {} } as const;
    this.#store.strikes.insert(job, { ...strike, foundIn: this.#newestRound(), at: deps.clock.now() });
    this.standings.noteStrike(who);
    outbox.event({ type: 'struck', peer, round, kind: 'conflicting', standing: 'banned' });
    const reason = `it signed two different updates for round ${round}`;
    this.bans.impose(who, { cause: 'proof', job: null, reason, until: null }, outbox);
  }

  /**
   * Clears a person's strikes in this job, and lifts the person's bans.
   * @param options `onlyJob`: if true, bans from all jobs stay in force. `lifted`: the bans that end in this job. The call for
   *   an earlier job may have lifted those from all jobs already
   */
  pardon(
    who: Who,
    { onlyJob, lifted }: { onlyJob: boolean; lifted: readonly StoredBan[] },
    outbox: Announcements,
  ): void {
    const { job, deps } = this.#context;
    const at = deps.clock.now();
    const strikes = this.#store.strikes.pardon(job, who, at);
    this.#store.bans.pardon(who, onlyJob ? job : null, at);
    this.standings.notePardon();
    // A ban was recorded with the peer that it named, so its end is recorded with the same peer.
    const banned = lifted.map(({ peer }) => peer);
    for (const peer of new Set([...banned, ...(strikes > 0 ? [who.peer] : [])])) {
      const bans = banned.filter((one) => one === peer).length;
      const counts = { strikes: peer === who.peer ? strikes : 0, bans };
      outbox.event({ type: 'pardoned', peer, ...counts, scope: onlyJob ? 'job' : 'all-jobs' });
    }
  }

  #mergedUpdates(round: number, outliers: readonly UpdateKey[]): JudgedUpdate[] {
    const { job } = this.#context;
    const { scores, updates, rounds, strikes } = this.#store;
    const assignments = new Map(
      rounds.newest(job, STALE_ROUNDS + 1).map((facts) => [facts.round, facts.assignments]),
    );
    const known = scores.ofMerge(job, round);
    const unclear = rounds.newestUnclear(job);
    return updates.selected(job, round).map((update): JudgedUpdate => {
      const { peer, round: made } = update;
      const isSame = (other: UpdateKey): boolean => isSameUpdate(update, other);
      const { figures, share, belief, isHarmful } = known.find(isSame) ?? UNSCORED;
      const disbelief = strikes.of(job, this.standings.who(peer)).filter(({ kind }) => kind === 'disbelief');
      const after = Math.max(unclear, ...disbelief.map(({ foundIn }) => foundIn));
      return {
        ...this.#unscored(round, update),
        ...{ figures, share, belief, isHarmful },
        steps: assignments.get(made)?.find((one) => one.peer === peer)?.steps ?? 1,
        isOutlier: outliers.some(isSame),
        scoredSince: scores.countShares(job, peer, { after, last: round }),
      };
    });
  }

  /** Returns what the judgement of misdeeds must know about an update that has no score. */
  #unscored(judgedIn: number, { peer, round, digest }: NamedUpdate): JudgedUpdate {
    const { job } = this.#context;
    return {
      ...{ peer, round, digest, ...UNSCORED },
      steps: 1,
      isOutlier: false,
      isBadPayload: false,
      earlier: this.#store.scores.shares(job, peer, { before: judgedIn, limit: BELIEF_UPDATES }),
      scoredSince: 0,
    };
  }

  #newestRound(): number {
    return this.#store.rounds.newestNumber(this.#context.job);
  }

  get #store() {
    return this.#context.deps.store;
  }
}
