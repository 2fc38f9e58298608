import { NOT_YET_CONNECTED } from '../../monitor/node-state.ts';
import { isNewer } from '../../protocol/job/head-order.ts';
import type { Head } from '../../protocol/messages.ts';
import { counts, type ReceiptCode } from '../../protocol/receipts.ts';
import { advance, deliveredReason, followHead } from './follow-head.ts';
import { onReceipt, type PendingUpdate } from './pending-update.ts';
import { initialState, type NodeEffect, type NodeEvent, type NodeState, type Transition } from './state.ts';
import {
  ASK_AGAIN_MS,
  backoffMs,
  HEAD_SILENCE_MS,
  OLD_HEAD_POLL_MS,
  RECEIPT_WAIT_MS,
  SUBMIT_AGAIN_MS,
} from './times.ts';
import { isPast, sameWork, type Work } from './work.ts';

/**
 * The state machine of a node in one job, as a pure function:
 *
 *   joining → syncing → training → publishing → awaiting → syncing …
 *
 * In every phase the node follows the newest head, and aborts work that this head no longer asks for. Updates without
 * an outcome are tracked beside the phase, until a receipt or a checkpoint settles them.
 * @param now on the monotonic clock, in milliseconds
 */
export function reduce(state: NodeState, event: NodeEvent, now: number): Transition {
  if (state.phase === 'leaving') return afterLeaving(state, event);
  switch (event.type) {
    case 'start':
      return { state: initialState(state.self), effects: [{ type: 'join' }] };
    case 'joined': {
      if (state.phase !== 'joining') return stay(state);
      const joined: NodeState = {
        ...state,
        phase: 'awaiting',
        failures: 0,
        retryAt: null,
        // Joining includes fetching the base, which can take long. The head may therefore be old by now, and the node
        // asks for the newest head.
        pollAt: now,
        reason: 'the coordinator has not announced a round yet',
        lastRound: event.history.lastRound,
        // Updates or receipts may have been lost in the restart, so the node asks for the receipts. It sends the update
        // of the open round again without asking first.
        pending: event.history.pending.map((update) => ({
          ...update,
          generation: 0,
          asks: 0,
          askAt: now + RECEIPT_WAIT_MS,
        })),
      };
      const newest = event.head && isNewer(event.head, state.head) ? event.head : state.head;
      return newest ? followHead({ ...joined, head: null }, newest, now) : stay(joined);
    }
    case 'join-failed':
      if (state.phase !== 'joining') return stay(state);
      return stay(failed(state, event.reason, event.jitter, now));
    case 'admitted':
      return stay(state.phase === 'joining' ? { ...state, reason: NOT_YET_CONNECTED } : state);
    case 'head': {
      const heard = { ...state, ...pollAfter(state, event.head, now) };
      if (!isNewer(event.head, state.head)) return stay(heard);
      if (state.phase === 'joining') return stay({ ...heard, head: event.head });
      return followHead(heard, event.head, now);
    }
    case 'synced': {
      if (state.fetching !== event.adapter) return stay(state);
      const holding = { ...state, adapter: event.adapter };
      return advance({ ...holding, phase: 'awaiting', fetching: null });
    }
    case 'sync-failed':
      if (state.fetching !== event.adapter) return stay(state);
      return stay(failed(state, event.reason, event.jitter, now));
    case 'trained':
      if (state.phase !== 'training' || !isCurrent(state, event.work)) return stay(state);
      return {
        state: { ...state, phase: 'publishing' },
        effects: [{ type: 'build-update', work: event.work }],
      };
    case 'train-failed':
    case 'build-failed': {
      if (!isCurrent(state, event.work)) return stay(state);
      const { round } = event.work;
      return stay({
        ...state,
        phase: 'awaiting',
        work: null,
        lastRound: Math.max(state.lastRound, round),
        reason: `round ${round} was lost: ${event.reason}`,
      });
    }
    case 'update-built':
      return updateBuilt(state, event.work, event.update, now);
    case 'receipt':
      return receipt(state, event.round, event.code, event.generation);
    case 'receipt-unknown':
      return withPending(state, event.round, (pending) => ({
        pending: { ...pending, askAt: now + SUBMIT_AGAIN_MS },
        effects: [{ type: 'submit', round: event.round, generation: pending.generation }],
      }));
    case 'ask-failed':
      return withPending(state, event.round, (pending) => ({
        pending: { ...pending, askAt: now + backoffMs(Math.max(1, pending.asks), event.jitter) },
        effects: [],
      }));
    case 'connected':
      if (state.phase !== 'joining') {
        return {
          state: { ...state, pollAt: now + HEAD_SILENCE_MS, rejoinFailures: 0 },
          effects: [{ type: 'poll', rejoin: true }],
        };
      }
      return stay(retryNow(state, now));
    case 'limits-changed':
      return stay(retryNow(state, now));
    case 'rejoined':
      return stay({ ...state, rejoinFailures: 0 });
    case 'rejoin-failed': {
      if (state.phase === 'joining') return stay(state);
      const rejoinFailures = state.rejoinFailures + 1;
      const wait = Math.min(HEAD_SILENCE_MS, backoffMs(rejoinFailures, event.jitter));
      return stay({ ...state, rejoinFailures, pollAt: now + wait });
    }
    case 'prepare-again':
      return {
        state: { ...initialState(state.self), reason: event.reason },
        effects: [{ type: 'abort' }, { type: 'join' }],
      };
    case 'shut-out':
      return { state: { ...leaving(state), reason: event.reason }, effects: [{ type: 'abort' }] };
    case 'tick':
      return tick(state, now);
    case 'stop':
      return {
        state: { ...leaving(state), reason: 'stopping' },
        effects: [
          { type: 'abort' },
          // Try once more to deliver the updates. An update that does not arrive is sent again after the next start.
          ...state.pending
            .filter(({ code }) => code === null)
            .map(({ round, generation }) => ({ type: 'submit' as const, round, generation })),
          { type: 'leave' },
        ],
      };
  }
}

function leaving(state: NodeState): NodeState {
  return { ...state, phase: 'leaving', fetching: null, work: null, retryAt: null };
}

/** Makes an attempt that waits for its time due at once. */
function retryNow(state: NodeState, now: number): NodeState {
  return state.retryAt === null ? state : { ...state, retryAt: now };
}

function stay(state: NodeState): Transition {
  return { state, effects: [] };
}

function isCurrent(state: NodeState, work: Work): boolean {
  return state.work !== null && sameWork(state.work, work);
}

function failed(state: NodeState, reason: string, jitter: number, now: number): NodeState {
  const failures = state.failures + 1;
  return { ...state, failures, retryAt: now + backoffMs(failures, jitter), reason };
}

/**
 * Returns when to ask for the newest head, after a head has arrived. Old heads cause at most one early poll in
 * HEAD_SILENCE_MS, because a peer that replays old heads could otherwise make every node ask once a second.
 */
function pollAfter(
  { phase, head, pollAt, earlyPollAt, rejoinFailures }: NodeState,
  arrived: Head,
  now: number,
): Pick<NodeState, 'pollAt' | 'earlyPollAt'> {
  if (phase === 'joining') return { pollAt: null, earlyPollAt };
  if (pollAt !== null && rejoinFailures > 0) return { pollAt, earlyPollAt };
  const isOld = head !== null && isNewer(head, arrived);
  if (!isOld) return { pollAt: now + HEAD_SILENCE_MS, earlyPollAt };
  const planned = pollAt ?? now + HEAD_SILENCE_MS;
  const early = now + OLD_HEAD_POLL_MS;
  const isAllowed = earlyPollAt === null || early >= earlyPollAt + HEAD_SILENCE_MS;
  return isAllowed && early < planned
    ? { pollAt: early, earlyPollAt: early }
    : { pollAt: planned, earlyPollAt };
}

/** A node that is leaving still settles the updates whose receipts arrive. */
function afterLeaving(state: NodeState, event: NodeEvent): Transition {
  if (event.type === 'receipt') return receipt(state, event.round, event.code, event.generation);
  return stay(state);
}

function updateBuilt(state: NodeState, work: Work, update: string, now: number): Transition {
  const pending: PendingUpdate = {
    round: work.round,
    update,
    code: null,
    generation: 0,
    asks: 0,
    // If the newest head is already past the round, the update is late, and the node asks for its receipt immediately.
    askAt: state.head && isPast(state.head, work.round) ? now : now + RECEIPT_WAIT_MS,
  };
  const current = isCurrent(state, work);
  return {
    state: {
      ...state,
      work: current ? null : state.work,
      reason: current ? `the update of round ${work.round} is sent` : state.reason,
      lastRound: Math.max(state.lastRound, work.round),
      pending: [...state.pending, pending],
    },
    effects: [{ type: 'publish', round: work.round }],
  };
}

function receipt(state: NodeState, round: number, code: ReceiptCode, generation: number | null): Transition {
  return withPending(state, round, (pending) => {
    const next = onReceipt(pending, code, generation, state.head);
    if (typeof next === 'object') return { pending: next, effects: [] };
    return {
      pending: null,
      effects: [{ type: 'settle', round, outcome: next }],
    };
  });
}

/**
 * Changes one pending update, or removes it if `change` returns null. Ends the phase `publishing` if the update of the
 * open round now has its receipt.
 */
function withPending(
  state: NodeState,
  round: number,
  change: (pending: PendingUpdate) => { pending: PendingUpdate | null; effects: NodeEffect[] },
): Transition {
  const known = state.pending.find((pending) => pending.round === round);
  if (!known) return stay(state);
  const changed = change(known);
  const pending = state.pending.flatMap((other) => {
    if (other !== known) return [other];
    return changed.pending ? [changed.pending] : [];
  });
  const answered = !changed.pending || (changed.pending.code !== null && counts(changed.pending.code));
  const done =
    state.phase === 'publishing' && state.work === null && known.round === state.head?.round && answered;
  return {
    state: {
      ...state,
      pending,
      ...(done && { phase: 'awaiting' as const, reason: deliveredReason(known.round) }),
    },
    effects: changed.effects,
  };
}

function tick(state: NodeState, now: number): Transition {
  const due = (at: number | null): boolean => at !== null && at <= now;
  const effects: NodeEffect[] = [];
  let next = state;
  if (due(state.retryAt)) {
    next = { ...next, retryAt: null };
    effects.push(state.phase === 'joining' ? { type: 'join' } : { type: 'sync', head: state.head! });
  }
  if (due(state.pollAt)) {
    next = { ...next, pollAt: now + HEAD_SILENCE_MS };
    effects.push({ type: 'poll', rejoin: state.rejoinFailures > 0 });
  }
  if (state.phase === 'joining') return { state: next, effects };
  const pending = state.pending.map((open) => {
    if (!due(open.askAt)) return open;
    effects.push({ type: 'ask', round: open.round, generation: open.generation });
    return { ...open, asks: open.asks + 1, askAt: now + ASK_AGAIN_MS };
  });
  return { state: { ...next, pending }, effects };
}
