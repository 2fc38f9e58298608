import type { Figures } from '../../protocol/messages.ts';
import { signMessage, verifyMessage } from '../../protocol/signing.ts';
import { FIGURE_RULES } from '../../verify/scores/belief.ts';
import type { RunContext } from '../context.ts';
import type { Store } from '../store/store.ts';

/**
 * Returns the signed scores and audits of a round; null if its updates were not scored.
 * @param issuedAt time in the message. @default now
 */
export function signedFigures(round: number, context: RunContext, issuedAt?: number): Uint8Array | null {
  const figures = figuresOf(round, context, issuedAt);
  return figures && signMessage('figures', figures, context.deps.network.signer);
}

function figuresOf(
  round: number,
  { job, stored, deps }: RunContext,
  issuedAt = deps.clock.now(),
): Figures | null {
  const { store } = deps;
  const facts = store.rounds.find(job, round);
  const scores = store.scores.ofMerge(job, round);
  if (facts === null || scores.length === 0) return null;
  const audits = store.audits.ofMerge(job, round);
  const rounds = new Map(
    [...new Set(scores.map((score) => score.round))].map((made) => [made, roundOf(made, { job, store })]),
  );
  const updates = scores.flatMap((score): Figures['updates'] => {
    const { peer, round: made, figures, late, earlier, share, belief, isHarmful } = score;
    const trained = rounds.get(made);
    const update = trained?.updates.get(peer);
    const assignment = trained?.assignments.get(peer);
    if (!update || !trained || !assignment) return [];
    const audit = audits.find((one) => one.peer === peer && one.round === made);
    const { start, end, steps } = assignment;
    return [
      {
        peer,
        round: made,
        update: update.digest,
        preset: update.preset,
        parent: trained.parent,
        start,
        end,
        steps,
        score: figures,
        late,
        share,
        belief,
        harmful: isHarmful,
        size: update.size,
        ...(earlier !== null && { earlier: [...earlier] }),
        audit:
          (audit?.state === 'passed' || audit?.state === 'failed') && audit.decidedRound !== null
            ? {
                closeness: audit.closeness!,
                balance: audit.balance!,
                passed: audit.state === 'passed',
                decidedRound: audit.decidedRound,
              }
            : null,
      },
    ];
  });
  // A reader can compute the shares again only if all updates and all earlier shares are in the figures.
  const isComplete = updates.length === scores.length && scores.every(({ earlier }) => earlier !== null);
  const merged = store.rounds.checkpoint(job, round);
  // The figures contain the term of the checkpoint, because the job's term may have grown since the merge.
  // The verification compares the term of the figures with the term of the checkpoint.
  const term = merged === null ? stored.term : verifyMessage('checkpoint', merged.envelope).message.term;
  return {
    job,
    term,
    round,
    parent: facts.parent,
    seed: store.scores.seed(job, round),
    assignedEnd: Math.max(0, ...facts.assignments.map(({ end }) => end)),
    ...(isComplete && { rules: FIGURE_RULES }),
    updates,
    issuedAt,
  };
}

/** Reads a round with all its updates. Reading the updates one by one would take several times as long. */
function roundOf(round: number, { job, store }: { job: string; store: Store }) {
  const facts = store.rounds.find(job, round);
  if (facts === null) return null;
  return {
    parent: facts.parent,
    assignments: new Map(facts.assignments.map((one) => [one.peer, one])),
    updates: new Map(store.updates.ofRounds(job, round, round).map((one) => [one.peer, one])),
  };
}
