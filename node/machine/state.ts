import { NOT_YET_CONNECTED } from '../../monitor/node-state.ts';
import type { Outcome } from '../../protocol/api/node.ts';
import type { Head, Heartbeat } from '../../protocol/messages.ts';
import type { ReceiptCode } from '../../protocol/receipts.ts';
import type { PendingUpdate } from './pending-update.ts';
import { isOver, type Work } from './work.ts';

/** State of a node in one job. Times are on the monotonic clock, in milliseconds. */
export interface NodeState {
  /** Peer id of this node. */
  readonly self: string;
  readonly phase: Exclude<Heartbeat['state'], 'busy'>;
  /** The newest head. */
  readonly head: Head | null;
  /** Digest of the adapter in memory. */
  readonly adapter: string | null;
  /** Digest of the adapter that is being fetched. */
  readonly fetching: string | null;
  /** Work that is being trained, or whose update is being built. */
  readonly work: Work | null;
  /**
   * The newest round in which this node made an update or failed to make one. The node does not train this round or an
   * earlier one again.
   */
  readonly lastRound: number;
  /** The newest round that ended before this node had finished its work in it; null if there is none. */
  readonly missedRound: number | null;
  /** Updates whose outcome is not known yet, oldest first. */
  readonly pending: readonly PendingUpdate[];
  /** Number of failed attempts in a row to join or to sync. */
  readonly failures: number;
  /** Number of rounds in a row that had no work for this node. */
  readonly idleRounds: number;
  /** Time of the next attempt to join or to sync; null if none is planned. */
  readonly retryAt: number | null;
  /** Time to ask for the newest head; null if the node does not plan to ask. */
  readonly pollAt: number | null;
  /** Time of the last poll that an old head caused, or will cause; null if there is none. */
  readonly earlyPollAt: number | null;
  /** Number of failed attempts in a row to join again after a connection has opened. */
  readonly rejoinFailures: number;
  /** Human-readable reason why the node waits. */
  readonly reason: string;
}

export type NodeEvent =
  | { type: 'start' }
  | { type: 'joined'; head: Head | null; history: JobHistory }
  | { type: 'join-failed'; reason: string; jitter: number }
  /** The coordinator has admitted the node, after it had not in the last attempt to join. */
  | { type: 'admitted' }
  /** A head that the job's coordinator has signed. It may be old, or known already. */
  | { type: 'head'; head: Head }
  | { type: 'synced'; adapter: string }
  | { type: 'sync-failed'; adapter: string; reason: string; jitter: number }
  | { type: 'trained'; work: Work }
  | { type: 'train-failed'; work: Work; reason: string }
  /** The update is durable. From now on, the node sends it, even if the newest head no longer asks for its round. */
  | { type: 'update-built'; work: Work; update: string }
  | { type: 'build-failed'; work: Work; reason: string }
  /**
   * `generation` is the number that the answered request carried (see `PendingUpdate`); null if the
   * coordinator sent the receipt unasked.
   */
  | { type: 'receipt'; round: number; code: ReceiptCode; generation: number | null }
  /** The coordinator has never seen the update. */
  | { type: 'receipt-unknown'; round: number }
  /** Asking for the receipt of an update, or submitting the update, failed. */
  | { type: 'ask-failed'; round: number; jitter: number }
  /** The poll with `rejoin` succeeded. */
  | { type: 'rejoined' }
  /** The poll with `rejoin` failed, for example because the coordinator is still starting. */
  | { type: 'rejoin-failed'; jitter: number }
  /** A connection to the coordinator has opened. */
  | { type: 'connected' }
  /** The owner has changed a limit, so an attempt that waits for its time may succeed now. */
  | { type: 'limits-changed' }
  /**
   * The node must join and prepare the job again, because a file of the base is damaged, or because the job no longer
   * fits the limits of the machine's owner.
   */
  | { type: 'prepare-again'; reason: string }
  /** The coordinator has shut this node out, for example because its invite was revoked. */
  | { type: 'shut-out'; reason: string }
  | { type: 'tick' }
  | { type: 'stop' };

export type NodeEffect =
  | { type: 'join' }
  | { type: 'sync'; head: Head }
  | { type: 'train'; work: Work }
  | { type: 'build-update'; work: Work }
  /** Aborts the join, sync, train or build-update effect that is running. The event of that effect is dropped. */
  | { type: 'abort' }
  /** Publishes a stored update over gossip. */
  | { type: 'publish'; round: number }
  /** Asks the coordinator for the receipt of an update. */
  | { type: 'ask'; round: number; generation: number }
  /** Sends an update in a request, because no receipt shows that the update arrived over gossip. */
  | { type: 'submit'; round: number; generation: number }
  /** Records the outcome of an update. A restored update is added back to the error feedback. */
  | { type: 'settle'; round: number; outcome: Outcome }
  /**
   * Asks for the newest head. With `rejoin`, the node asks by joining again, because the coordinator may have forgotten
   * the node.
   */
  | { type: 'poll'; rejoin: boolean }
  | { type: 'leave' };

/** An effect whose end is reported by an event. At most one such effect runs at a time. */
export type MainEffect = Extract<NodeEffect, { type: 'join' | 'sync' | 'train' | 'build-update' }>;

export interface Transition {
  readonly state: NodeState;
  readonly effects: readonly NodeEffect[];
}

/**
 * A job as the node stored it before a restart: the newest round with an update, and the updates whose outcome is not
 * known yet.
 */
export interface JobHistory {
  readonly lastRound: number;
  readonly pending: readonly { round: number; update: string; code: ReceiptCode | null }[];
}

export function initialState(self: string): NodeState {
  return {
    self,
    phase: 'joining',
    head: null,
    adapter: null,
    fetching: null,
    work: null,
    lastRound: 0,
    missedRound: null,
    pending: [],
    failures: 0,
    idleRounds: 0,
    retryAt: null,
    pollAt: null,
    earlyPollAt: null,
    rejoinFailures: 0,
    reason: NOT_YET_CONNECTED,
  };
}

/** Returns when the machine needs its next `tick`, or null when only another event can change its state. */
export function dueAt(state: NodeState): number | null {
  if (state.phase === 'leaving') return null;
  const times = [state.retryAt, state.pollAt];
  // A node that is still joining does not know yet which coordinator to ask for receipts.
  if (state.phase !== 'joining') times.push(...state.pending.map(({ askAt }) => askAt));
  const set = times.filter((time) => time !== null);
  return set.length > 0 ? Math.min(...set) : null;
}

/**
 * Returns whether the job needs nothing more from this node: the job is over, the node holds its last adapter, and
 * every update is settled.
 */
export function isDone(state: NodeState): boolean {
  return (
    state.head !== null &&
    isOver(state.head) &&
    state.phase === 'awaiting' &&
    state.adapter === state.head.checkpoint.adapter.digest &&
    state.pending.length === 0
  );
}

/**
 * Returns the event that reports a failed effect to the state machine.
 * @param jitter random number, uniform in [0, 1)
 */
export function failureEvent(effect: MainEffect, reason: string, jitter: number): NodeEvent {
  switch (effect.type) {
    case 'join':
      return { type: 'join-failed', reason, jitter };
    case 'sync':
      return { type: 'sync-failed', adapter: effect.head.checkpoint.adapter.digest, reason, jitter };
    case 'train':
      return { type: 'train-failed', work: effect.work, reason };
    case 'build-update':
      return { type: 'build-failed', work: effect.work, reason };
  }
}
