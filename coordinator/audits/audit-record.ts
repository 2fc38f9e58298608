import { planLayout } from '../../lora/update/index.ts';
import type { Checkpoint } from '../../protocol/messages.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import { BELIEF_UPDATES, beliefOf } from '../../verify/scores/belief.ts';
import { AUDIT_SHARE } from '../../verify/scores/extra-work.ts';
import type { RunContext } from '../context.ts';
import type { Assignment } from '../round/plan.ts';
import type { AuditResult, StoredAudit, StoredCheckpoint } from '../store/store.ts';
import type { Announcements } from '../trust/bans.ts';
import type { Ledger } from '../trust/ledger.ts';
import { auditKey, type DrawnUpdate, drawAudits, isWatched } from './draw.ts';
import { isTrusted, MIN_STEPS, type PersonResult } from './verdict.ts';

/** Maximum number of waiting audits. A slow coordinator draws no new audits until it has finished some of these. */
export const WAITING_AUDITS = 4;

/**
 * Maximum number of parameters of an adapter whose updates are audited. An audit needs memory for six arrays of the
 * adapter's size: the adapter before training, after half of the steps and after all steps, the two moments of AdamW,
 * and the copy that is being sent to the trainer process.
 */
const MAX_PARAMETERS = 64_000_000;

/** Author and round, which identify an update. */
interface UpdateKey {
  readonly peer: string;
  readonly round: number;
}

/** Chooses audits and stores their results. Each method must be called in a transaction. */
export class AuditRecord {
  readonly #context: RunContext;

  constructor(deps: { context: RunContext }) {
    this.#context = deps.context;
  }

  /**
   * Chooses audits at the end of a round, before blobs of the round are released.
   * @param checkpoint the checkpoint that the round ended with
   */
  draw({ round, contributors }: Pick<Checkpoint, 'round' | 'contributors'>): void {
    const { job, layout, deps, audits: isOn } = this.#context;
    const { store } = deps;
    if (!isOn || planLayout(layout).parameters > MAX_PARAMETERS) return;
    if (store.audits.inState(job, 'chosen').length >= WAITING_AUDITS) return;
    const seed = deps.randomBytes(32);
    const weighty = contributors.filter(({ weight }) => weight > 0);
    const trained =
      (store.audits.newestDraw(job)?.trained ?? 0) +
      weighty.reduce((sum, update) => sum + this.#intervalRows(update), 0);
    store.audits.putDraw(job, { round, seed, trained });

    const results = store.audits.results(job);
    const fresh = weighty.flatMap((update): DrawnUpdate[] => {
      if (this.#blobsOf(update) === null || this.#steps(update) < MIN_STEPS) return [];
      const rows = this.#intervalRows(update);
      const shares = store.scores.shares(job, update.peer, { before: round, limit: BELIEF_UPDATES });
      const { peer, round: made } = update;
      const watched = isWatched({ peer, round, shares }, results);
      return [{ peer, round: made, rows, key: auditKey(seed, { ...update, isWatched: watched }) }];
    });
    const before = store.audits.inState(job, 'held');
    const credit = AUDIT_SHARE * trained - store.audits.spent(job);
    const { chosen, held } = drawAudits([...before, ...fresh], credit);
    const kept = held === null ? chosen : [...chosen, held];
    for (const audit of before) if (!kept.includes(audit)) store.audits.remove(job, audit);
    for (const update of kept) {
      if (fresh.includes(update)) store.audits.put(job, { ...update, mergeRound: round });
    }
    for (const update of chosen) store.audits.choose(job, update, round);
    this.#keepBlobs();
  }

  /**
   * Stores the result of an audit. Then records a strike for each failed audit that has not led to a strike yet, if the
   * coordinator's own computations can be trusted (see `isTrusted`).
   */
  finish(
    audit: UpdateKey,
    result: AuditResult,
    { ledger, outbox }: { ledger: Ledger; outbox: Announcements },
  ): void {
    const { job, deps } = this.#context;
    const { audits, updates } = deps.store;
    const newest = this.#newestRound();
    // A failed audit stays undecided at first. The results of other persons decide whether it counts (see `isTrusted`).
    audits.finish(job, audit, { ...result, decidedRound: result.state === 'failed' ? null : newest });
    this.#keepBlobs();
    if (result.state === 'dropped') return;
    const results = audits.results(job);
    const byPerson = this.#newestResults(results, ledger);
    for (const { peer, round, state, decidedRound, closeness, balance } of results) {
      const isOpen = state === 'failed' && decidedRound === null;
      if (!isOpen || !isTrusted(ledger.standings.who(peer).person, byPerson)) continue;
      audits.decide(job, { peer, round }, newest);
      const { digest } = updates.find(job, round, peer)!;
      const figures = { closeness: closeness!, balance: balance! };
      ledger.strike(peer, { kind: 'audit', round, digest, figures }, outbox);
    }
  }

  /** Returns the newest result of each audited person, with the facts that decide its weight. */
  #newestResults(results: readonly StoredAudit[], ledger: Ledger): PersonResult[] {
    const { job, deps } = this.#context;
    const newest = new Map(results.map((one) => [ledger.standings.who(one.peer).person, one]));
    const before = this.#newestRound() + 1;
    return [...newest].map(([person, { peer, state }]) => {
      const shares = deps.store.scores.shares(job, peer, { before, limit: BELIEF_UPDATES });
      const isNewcomer = shares.length < BELIEF_UPDATES;
      return { person, passed: state === 'passed', belief: beliefOf(shares), isNewcomer };
    });
  }

  /** Drops all audits without a result, because the job is over. */
  close(): void {
    const { job, deps } = this.#context;
    const { audits } = deps.store;
    for (const audit of audits.inState(job, 'held')) audits.remove(job, audit);
    for (const audit of audits.inState(job, 'chosen')) {
      const none = { closeness: null, balance: null, seconds: null, reason: 'the job is over' };
      audits.finish(job, audit, { ...none, state: 'dropped', decidedRound: null });
    }
    this.#keepBlobs();
  }

  /**
   * Protects the blobs of chosen audits, and of the audit that is held for the next draw. Releases the blobs of all
   * other audits.
   */
  #keepBlobs(): void {
    const { job, deps } = this.#context;
    const { audits, blobs } = deps.store;
    blobs.release(job, 'audit', 0, Number.MAX_SAFE_INTEGER);
    for (const audit of [...audits.inState(job, 'held'), ...audits.inState(job, 'chosen')]) {
      blobs.use(job, 'audit', audit.round, this.#digestsOf(audit)!);
    }
  }

  /** Returns the blobs that an audit needs; null if one of them is no longer kept. */
  #blobsOf(update: UpdateKey): string[] | null {
    const digests = this.#digestsOf(update);
    return digests?.every((digest) => this.#context.deps.store.blobs.needs(digest)) ? digests : null;
  }

  #digestsOf(update: UpdateKey): string[] | null {
    const { job, deps } = this.#context;
    const stored = deps.store.updates.find(job, update.round, update.peer);
    const parent = this.#parentOf(update.round);
    return stored && parent && [stored.digest, adapterOf(parent)];
  }

  #parentOf(round: number): StoredCheckpoint | null {
    const { job, deps } = this.#context;
    const facts = deps.store.rounds.find(job, round);
    return facts && deps.store.rounds.checkpointOf(job, facts.parent);
  }

  #newestRound(): number {
    const { job, deps } = this.#context;
    return deps.store.rounds.newest(job, 1)[0]!.round;
  }

  #intervalRows(update: UpdateKey): number {
    const assignment = this.#assignmentOf(update);
    return assignment ? assignment.end - assignment.start : 0;
  }

  #steps(update: UpdateKey): number {
    return this.#assignmentOf(update)?.steps ?? 0;
  }

  #assignmentOf({ peer, round }: UpdateKey): Assignment | undefined {
    const { job, deps } = this.#context;
    return deps.store.rounds.find(job, round)?.assignments.find((one) => one.peer === peer);
  }
}

/** Returns the digest of a checkpoint's adapter. */
function adapterOf({ envelope }: StoredCheckpoint): string {
  return verifyMessage('checkpoint', envelope).message.adapter.digest;
}
