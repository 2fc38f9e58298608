import type { Head } from '../../protocol/messages.ts';

/** One node's part of a round: which rows to train, from which adapter, for how many steps. */
export interface Work {
  readonly term: number;
  readonly round: number;
  /** Number of checkpoints that the job has made so far. The learning rate depends on it. */
  readonly committed: number;
  /** Digest of the checkpoint that the round starts from. */
  readonly parent: string;
  /** Digest of the adapter of the checkpoint `parent`. */
  readonly adapter: string;
  readonly preset: Head['preset'];
  /** Interval [start, end) of positions in the round's permutation of the data rows. */
  readonly start: number;
  readonly end: number;
  /** Number of optimiser steps. */
  readonly steps: number;
  /** Learning rate that the operator has set, or null if the manifest's learning rate applies. */
  readonly learningRate: number | null;
  /** Number of checkpoints that the operator has set, or null if the manifest's number applies. */
  readonly count: number | null;
}

/** Returns the work of this node in the round of a head; null if the head assigns it no rows. */
export function workOf(head: Head, self: string): Work | null {
  if (head.phase !== 'training') return null;
  const own = head.assignments.find(({ peer }) => peer === self);
  if (!own || own.end <= own.start) return null;
  return {
    term: head.term,
    round: head.round,
    committed: head.checkpoint.ordinal,
    parent: head.checkpoint.digest,
    adapter: head.checkpoint.adapter.digest,
    preset: head.preset,
    start: own.start,
    end: own.end,
    steps: own.steps,
    learningRate: head.settings?.values.learningRate ?? null,
    count: head.settings?.values.count ?? null,
  };
}

/**
 * Returns how many milliseconds are left to train the open round. Most rounds close at half of their deadline, because
 * the deadline is twice the time for which the coordinator waits for all nodes.
 * @param now Unix time in milliseconds
 */
export function dueInMs({ deadlineMs, issuedAt }: Head, now: number): number {
  const half = deadlineMs / 2;
  return Math.min(half, Math.max(0, issuedAt + half - now));
}

/** Returns whether all fields are equal. Otherwise, work in progress for `a` cannot continue as work for `b`. */
export function sameWork(a: Work, b: Work): boolean {
  return (Object.keys(a) as (keyof Work)[]).every((field) => a[field] === b[field]);
}

/** Returns the newest round that has begun, or 0. The head of a waiting job names a round that has not begun yet. */
export function openedRound(head: Head | null): number {
  if (!head) return 0;
  return head.phase === 'training' ? head.round : head.checkpoint.round;
}

/** Returns whether this head shows that a round has ended, with or without a checkpoint. */
export function isPast(head: Head, round: number): boolean {
  return isOver(head) || head.round > round || head.checkpoint.round >= round;
}

/** Returns whether the job has ended, so that no further round follows. */
export function isOver(head: Head): boolean {
  return head.phase === 'finished' || head.phase === 'failed';
}
