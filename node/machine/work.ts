import type { Head } from '../../protocol/messages.ts';

/** What a head asks of one node: which rows to train, from which adapter, for how many steps. */
export interface Work {
  readonly term: number;
  readonly round: number;
  /** Checkpoints that the job has made, which the learning rate follows. */
  readonly committed: number;
  /** Digest of the checkpoint that the round starts from. */
  readonly parent: string;
  /** Digest of that checkpoint's adapter. */
  readonly adapter: string;
  readonly preset: Head['preset'];
  /** Interval [start, end) of positions in the round's permutation. */
  readonly start: number;
  readonly end: number;
  /** Optimiser steps. */
  readonly steps: number;
}

/** The node's part of a head; null when the head gives it none. */
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
  };
}

/** Whether what is being done for `a` serves `b` as it stands. */
export function sameWork(a: Work, b: Work): boolean {
  return (Object.keys(a) as (keyof Work)[]).every((field) => a[field] === b[field]);
}

/** The newest round that has been open, as far as the head tells: while a job waits, its head names the next one. */
export function openedRound(head: Head | null): number {
  if (!head) return 0;
  return head.phase === 'training' ? head.round : head.checkpoint.round;
}

/** Whether the head tells that a round is over, with or without a checkpoint. */
export function isPast(head: Head, round: number): boolean {
  return isOver(head) || head.round > round || head.checkpoint.round >= round;
}

/** Whether no further round will follow. */
export function isOver(head: Head): boolean {
  return head.phase === 'finished' || head.phase === 'failed';
}
