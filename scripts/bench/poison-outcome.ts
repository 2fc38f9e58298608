/** The figures of one run of the poison benchmark, from the coordinator's store. */
import type { Store, StoredRound } from '../../coordinator/store/store.ts';
import type { Checkpoint } from '../../protocol/messages.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import { attackOf, attacksIn, type PoisonRun } from './poison-run.ts';

/** One closed round of a run. */
export interface PoisonedRound {
  readonly round: number;
  readonly outcome: string | null;
  /** Weight of the attackers' updates in the merge, as a fraction of the total weight; null without a merge. */
  readonly share: number | null;
  /** Steps assigned to attackers, as a fraction of all assigned steps. */
  readonly assigned: number;
  /** Number of poisoned updates among the updates that had arrived when the round closed. */
  readonly poisoned: number;
  readonly honestBelief: { readonly least: number; readonly mean: number } | null;
  readonly attackersBelief: number | null;
  readonly heldOutLoss: number | null;
}

export interface AttackerOutcome {
  readonly attack: string;
  /**
   * Number of rounds that the attacker needed to lose all weight (see the function `weightlessAfter`); null if the job's
   * last merge still gives weight to an attacking update of the attacker.
   */
  readonly weightlessAfter: number | null;
  /** Belief in the attacker after each scored round; null if the round contained no update of the attacker. */
  readonly beliefs: readonly (number | null)[];
}

export interface PoisonOutcome {
  /** Phase in which the job ended; `paused` if the coordinator paused it. */
  readonly phase: string;
  readonly rounds: readonly PoisonedRound[];
  readonly attackers: readonly AttackerOutcome[];
  /** Number of honest nodes that got no work in some round after the first, or that were suspended or banned. */
  readonly excluded: number;
  /** Number of updates that had no weight although their authors were honest and were not newcomers. */
  readonly disbelieved: number;
  /** Number of receipts of honest nodes and of attackers, by code. */
  readonly receipts: Record<'honest' | 'attackers', Record<string, number>>;
  /** Number of strikes of each kind, and numbers of suspensions (`suspended`) and bans (`banned`). */
  readonly strikes: Record<'honest' | 'attackers', Record<string, number>>;
  readonly rollBacks: number;
  /** Audits that ended with a result; `attack` is null for an honest node. */
  readonly audits: readonly {
    readonly round: number;
    readonly attack: string | null;
    readonly state: string;
    readonly closeness: number;
    readonly balance: number;
  }[];
  /** Scores of all updates; `attack` is null for an honest node. */
  readonly scores: readonly {
    readonly round: number;
    readonly attack: string | null;
    readonly effect: number | null;
    readonly effectError: number | null;
    readonly gain: number | null;
    readonly share: number | null;
  }[];
  /**
   * Number of rows that scoring and audits work on, divided by the number of rows that the nodes trained on.
   */
  readonly extraWork: number;
}

const RECEIPTS = 4096;
const EVENTS = 100_000;
const ROUNDS = 100_000;
/** A node with fewer scored updates than this number is a newcomer. */
const NEWCOMER_UPDATES = 3;

/** A run that has ended. */
export interface EndedRun {
  readonly run: PoisonRun;
  readonly job: string;
  readonly store: Store;
  readonly phase: string;
  /** Peer ids of the honest nodes. */
  readonly honest: readonly string[];
  readonly attackers: readonly string[];
  /**
   * Number of rows that scoring and audits worked on. A row for which only the loss was computed, and no gradient,
   * counts as LOSS_COST rows.
   */
  readonly extraRows: number;
}

export function outcomeOf(ended: EndedRun): PoisonOutcome {
  const { run, job, store, phase, honest, attackers, extraRows } = ended;
  const closed = store.rounds.newest(job, ROUNDS).reverse();
  const checkpoints = checkpointsOf(ended);
  const events = store.events.after(job, 0, EVENTS);
  const strikes: PoisonOutcome['strikes'] = { honest: {}, attackers: {} };
  const excluded = new Set<string>();
  for (const { round, assignments } of closed) {
    if (round === 1) continue;
    for (const peer of honest) if (!assignments.some((given) => given.peer === peer)) excluded.add(peer);
  }
  for (const event of events) {
    if (event.type !== 'struck' && event.type !== 'suspended' && event.type !== 'banned') continue;
    const isHonest = honest.includes(event.peer);
    if (isHonest && event.type !== 'struck') excluded.add(event.peer);
    const counts = strikes[isHonest ? 'honest' : 'attackers'];
    const what = event.type === 'struck' ? event.kind : event.type;
    counts[what] = (counts[what] ?? 0) + 1;
  }
  const attackOfPeer = (peer: string): string | null =>
    attackers.includes(peer) ? attackOf(attackers.indexOf(peer), run.attack) : null;
  return {
    phase,
    rounds: closed.map((round) => roundOf(round, ended, checkpoints.get(round.round) ?? null)),
    attackers: attackers.map((peer) => ({
      attack: attackOfPeer(peer)!,
      weightlessAfter: weightlessAfter(peer, ended, { closed, checkpoints }),
      beliefs: closed.map(
        ({ round }) => store.scores.ofMerge(job, round).find((score) => score.peer === peer)?.belief ?? null,
      ),
    })),
    excluded: excluded.size,
    disbelieved: closed.reduce((sum, { round }) => sum + disbelievedIn(round, ended), 0),
    receipts: { honest: receiptsOf(honest, ended), attackers: receiptsOf(attackers, ended) },
    strikes,
    audits: store.audits.results(job).map(({ peer, round, state, closeness, balance }) => ({
      round,
      attack: attackOfPeer(peer),
      state,
      closeness: closeness!,
      balance: balance!,
    })),
    scores: closed.flatMap(({ round }) =>
      store.scores.ofMerge(job, round).map(({ peer, figures, share }) => ({
        round,
        attack: attackOfPeer(peer),
        effect: figures?.effect ?? null,
        effectError: figures?.effectError ?? null,
        gain: figures?.gain ?? null,
        share,
      })),
    ),
    rollBacks: events.filter(({ type }) => type === 'rolled-back').length,
    extraWork:
      extraRows /
      Math.max(
        1,
        closed.reduce((sum, round) => sum + trainedRows(round, ended), 0),
      ),
  };
}

/** Returns the checkpoints by round. */
function checkpointsOf({ store, job }: EndedRun): ReadonlyMap<number, Checkpoint> {
  return new Map(
    store.rounds
      .checkpoints(job)
      .map(({ round, envelope }) => [round, verifyMessage('checkpoint', envelope).message]),
  );
}

function roundOf(
  { round, outcome, assignments }: StoredRound,
  { run, job, store, attackers }: EndedRun,
  checkpoint: Checkpoint | null,
): PoisonedRound {
  const isAttacker = ({ peer }: { peer: string }): boolean => attackers.includes(peer);
  const contributors = checkpoint?.contributors ?? [];
  const weightOf = (some: typeof contributors): number => some.reduce((sum, { weight }) => sum + weight, 0);
  const stepsOf = (some: typeof assignments): number => some.reduce((sum, { steps }) => sum + steps, 0);
  const scores = store.scores.ofMerge(job, round);
  const good = scores.filter((score) => !isAttacker(score)).map(({ belief }) => belief);
  const bad = scores.filter(isAttacker).map(({ belief }) => belief);
  const total = weightOf(contributors);
  return {
    round,
    outcome,
    share: total > 0 ? weightOf(contributors.filter(isAttacker)) / total : null,
    assigned: stepsOf(assignments.filter(isAttacker)) / Math.max(1, stepsOf(assignments)),
    poisoned: store.updates
      .selected(job, round)
      .filter((update) => isAttacker(update) && attacksIn(update.round, run.behaviour)).length,
    honestBelief: good.length > 0 ? { least: Math.min(...good), mean: mean(good) } : null,
    attackersBelief: bad.length > 0 ? mean(bad) : null,
    heldOutLoss: checkpoint?.metrics.heldOutLoss ?? null,
  };
}

/**
 * Returns the number of rounds that an attacker needed to lose all weight: from the first round that received one of its
 * attacking updates to the last round in which such an update has weight, both included. Rounds between these two count,
 * whether or not the attacker has weight in them. Updates of rounds in which the attacker is honest do not count.
 * @returns 0 if no attacking update has weight; null if the job's last merge still gives weight to one
 */
function weightlessAfter(
  peer: string,
  { run, job, store }: EndedRun,
  { closed, checkpoints }: { closed: readonly StoredRound[]; checkpoints: ReadonlyMap<number, Checkpoint> },
): number | null {
  const isPoison = (update: { peer: string; round: number }): boolean =>
    update.peer === peer && attacksIn(update.round, run.behaviour);
  const sent = closed.filter(({ round }) => store.updates.selected(job, round).some(isPoison));
  const weighty = [...checkpoints].filter(([, { contributors }]) =>
    contributors.some((one) => isPoison(one) && one.weight > 0),
  );
  const last = weighty.at(-1)?.[0];
  if (last === undefined) return 0;
  return last === [...checkpoints.keys()].at(-1) ? null : last - sent[0]!.round + 1;
}

/** Returns the number of updates of a round that had no weight although their authors were honest, and not newcomers. */
function disbelievedIn(round: number, { job, store, honest }: EndedRun): number {
  return store.scores.ofMerge(job, round).filter(({ peer, belief, isHarmful }) => {
    const known = store.scores.shares(job, peer, { before: round, limit: NEWCOMER_UPDATES });
    return honest.includes(peer) && (isHarmful || (belief === 0 && known.length === NEWCOMER_UPDATES));
  }).length;
}

/** Returns the number of rows that the delivered updates of a round were trained on. */
function trainedRows({ round, assignments }: StoredRound, { job, store }: EndedRun): number {
  return store.updates.selected(job, round).reduce((sum, update) => {
    const given = assignments.find(({ peer }) => peer === update.peer);
    return update.round === round && given ? sum + given.end - given.start : sum;
  }, 0);
}

function receiptsOf(peers: readonly string[], { job, store }: EndedRun): Record<string, number> {
  const codes: Record<string, number> = {};
  for (const peer of peers) {
    for (const { code } of store.updates.receipts(job, peer, RECEIPTS)) codes[code] = (codes[code] ?? 0) + 1;
  }
  return codes;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
