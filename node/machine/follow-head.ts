import { pauseText } from '../../common/text.ts';
import type { Head } from '../../protocol/messages.ts';
import { onHead, type PendingUpdate } from './pending-update.ts';
import type { NodeEffect, NodeState, Transition } from './state.ts';
import { isPast, sameWork, workOf } from './work.ts';

/**
 * Number of rounds in a row without work after which a node joins again. A full job may have given the node's place to
 * another node in the meantime. A node that still has its place can also be without work, because a round takes at most
 * ROUND_PEERS nodes. For that node, joining again changes nothing.
 */
const REJOIN_AFTER_IDLE_ROUNDS = 3;

/**
 * Makes a newer head the state's head. Settles the updates whose outcome the head decides, then starts the work that
 * the head asks for.
 */
export function followHead(state: NodeState, head: Head, now: number): Transition {
  const pending: PendingUpdate[] = [];
  const effects: NodeEffect[] = [];
  for (const open of state.pending) {
    const next = onHead(open, head, state, now);
    if (typeof next === 'object') pending.push(next);
    else effects.push({ type: 'settle', round: open.round, outcome: next });
  }
  const opened = head.phase === 'training' && head.round !== state.head?.round;
  let idleRounds = workOf(head, state.self) ? 0 : state.idleRounds + (opened ? 1 : 0);
  if (idleRounds >= REJOIN_AFTER_IDLE_ROUNDS) {
    idleRounds = 0;
    effects.push({ type: 'poll', rejoin: true });
  }
  const missedRound = missedBy(state, head) ?? state.missedRound;
  const advanced = advance({ ...state, head, pending, idleRounds, missedRound });
  return { state: advanced.state, effects: [...effects, ...advanced.effects] };
}

/** Returns the round that a new head ends although this node still had to work on it; null if there is none. */
function missedBy({ head: before, self, phase, lastRound }: NodeState, head: Head): number | null {
  const work = before && workOf(before, self);
  const isOpen = work !== null && work.round > lastRound && phase !== 'publishing';
  return isOpen && isPast(head, work.round) ? work.round : null;
}

/** Starts the work that the newest head asks for. Work in progress continues if the head still asks for it. */
export function advance(state: NodeState): Transition {
  const head = state.head!;
  const { digest } = head.checkpoint.adapter;
  const busy = state.fetching !== null || state.work !== null;
  const effects: NodeEffect[] = [];
  const turn = (next: Partial<NodeState>, ...further: NodeEffect[]): Transition => {
    if (busy) effects.push({ type: 'abort' });
    effects.push(...further);
    return { state: { ...state, fetching: null, work: null, failures: 0, retryAt: null, ...next }, effects };
  };

  const work = workOf(head, state.self);
  if (work && state.work && sameWork(work, state.work)) return { state, effects: [] };
  // If a fetch is running, fetch the head's adapter even if the node has it. The running fetch is aborted, but may just
  // have stored another adapter, for example if the operator rolls the job back at this moment. The second fetch costs
  // little.
  if (state.adapter !== digest || state.fetching !== null) {
    if (state.fetching === digest) return { state, effects: [] };
    const reason = `fetching the adapter of round ${head.checkpoint.round}`;
    return turn({ phase: 'syncing', fetching: digest, reason }, { type: 'sync', head });
  }
  if (!work) return turn({ phase: 'awaiting', reason: idleReason(head) });

  const own = state.pending.find(({ round }) => round === work.round);
  if (own) {
    if (own.code !== null) return turn({ phase: 'awaiting', reason: deliveredReason(work.round) });
    if (state.phase === 'publishing') return { state, effects: [] };
    // The update was built before a restart. The node sends the same bytes again.
    const reason = `the update of round ${work.round} is sent again`;
    return turn({ phase: 'publishing', reason }, { type: 'publish', round: own.round });
  }
  if (work.round <= state.lastRound) {
    return turn({
      phase: 'awaiting',
      reason: `round ${work.round} is done or lost; waiting for the next round`,
    });
  }
  return turn({ phase: 'training', work, reason: '' }, { type: 'train', work });
}

export function deliveredReason(round: number): string {
  return `the update of round ${round} is delivered; the coordinator has not merged the round yet`;
}

function idleReason(head: Head): string {
  const because = head.reason === '' ? '' : `: ${head.reason}`;
  switch (head.phase) {
    case 'training':
      return `round ${head.round} began without this node; the node takes part from the next round`;
    case 'waiting':
      return head.reason === '' ? 'the job has no open round' : head.reason;
    case 'paused':
      return `the job is ${pauseText(head.round)}${because}`;
    case 'finished':
    case 'failed':
      return `the job has ended${because}`;
  }
}
