import type { Head, Heartbeat } from '../../protocol/messages.ts';
import type { ReceiptCode } from '../../protocol/receipts.ts';
import type { Outcome, PendingUpdate } from './pending-update.ts';
import { isOver, type Work } from './work.ts';

/** Where a node stands in one job. */
export interface NodeState {
  readonly self: string;
  readonly phase: Heartbeat['state'];
  readonly head: Head | null;
  /** Digest of the adapter in memory. */
  readonly adapter: string | null;
  /** Digest of the adapter being fetched. */
  readonly fetching: string | null;
  /** What is being trained, or made into an update. */
  readonly work: Work | null;
  /** The newest round that has an update or was given up: no round is trained again after either. */
  readonly lastRound: number;
  /** Oldest first. */
  readonly pending: readonly PendingUpdate[];
  /** Failed attempts in a row at joining or syncing. */
  readonly failures: number;
  /** Rounds in a row that had no work for this node. */
  readonly overlooked: number;
  readonly retryAt: number | null;
  readonly pollAt: number | null;
  /** Why the node waits, for people. */
  readonly reason: string;
}

export type NodeEvent =
  | { type: 'start' }
  /** `remembered`: what the store holds of the job. */
  | { type: 'joined'; head: Head | null; remembered: Remembered }
  | { type: 'join-failed'; reason: string; jitter: number }
  /** Verified: signed by the job's coordinator. Old ones and repetitions may come too. */
  | { type: 'head'; head: Head }
  | { type: 'synced'; adapter: string }
  | { type: 'sync-failed'; adapter: string; reason: string; jitter: number }
  | { type: 'trained'; work: Work }
  | { type: 'train-failed'; work: Work; reason: string }
  /** The update is durable: from here on it is sent, whatever the newest head says. */
  | { type: 'sealed'; work: Work; update: string }
  | { type: 'seal-failed'; work: Work; reason: string }
  /** `asked`: the generation in which it was asked for, null for a notice. */
  | { type: 'receipt'; round: number; code: ReceiptCode; asked: number | null }
  /** The coordinator has never seen the update. */
  | { type: 'receipt-unknown'; round: number }
  | { type: 'ask-failed'; round: number; jitter: number }
  /** A connection to the coordinator is open again. */
  | { type: 'connected' }
  | { type: 'tick' }
  | { type: 'stop' };

export type NodeEffect =
  | { type: 'join' }
  | { type: 'sync'; head: Head }
  | { type: 'train'; work: Work }
  | { type: 'seal'; work: Work }
  /** Ends the join, sync, train or seal that is running; what it would still report is not awaited. */
  | { type: 'abort' }
  | { type: 'publish'; round: number }
  | { type: 'ask'; round: number; generation: number }
  | { type: 'submit'; round: number; generation: number }
  | { type: 'settle'; round: number; outcome: Outcome }
  /** Asks for the newest head; `again` also joins again, for a coordinator that was away may have forgotten us. */
  | { type: 'poll'; again: boolean }
  | { type: 'leave' };

export interface Transition {
  readonly state: NodeState;
  readonly effects: readonly NodeEffect[];
}

/** What a node remembers of a job from before it was restarted. */
export interface Remembered {
  readonly lastRound: number;
  readonly pending: readonly { round: number; update: string; code: ReceiptCode | null }[];
}

/** Why a node waits that has just been started. */
export const NOT_YET_CONNECTED = 'not yet connected';

export function initialState(self: string): NodeState {
  return {
    self,
    phase: 'joining',
    head: null,
    adapter: null,
    fetching: null,
    work: null,
    lastRound: 0,
    pending: [],
    failures: 0,
    overlooked: 0,
    retryAt: null,
    pollAt: null,
    reason: NOT_YET_CONNECTED,
  };
}

/** When the machine wants its next `tick`; null when only other events move it on. */
export function dueAt(state: NodeState): number | null {
  if (state.phase === 'leaving') return null;
  const times = [state.retryAt, state.pollAt];
  // Before the node has joined it does not know whom to ask.
  if (state.phase !== 'joining') times.push(...state.pending.map(({ askAt }) => askAt));
  const set = times.filter((time) => time !== null);
  return set.length > 0 ? Math.min(...set) : null;
}

/** Whether the job needs nothing more of this node: it is over, and every update is settled. */
export function isDone(state: NodeState): boolean {
  return (
    state.head !== null &&
    isOver(state.head) &&
    state.phase === 'awaiting' &&
    state.adapter === state.head.checkpoint.adapter.digest &&
    state.pending.length === 0
  );
}
