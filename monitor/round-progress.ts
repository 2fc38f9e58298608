import type { PeerView } from '../../../coordinator/api/types.ts';

/** Returns the share of the round's steps that a node has made, and its state in words. */
export function progressOf(
  view: Pick<PeerView, 'state' | 'round' | 'step' | 'steps'> | null,
  round: number,
): { done: number; words: string } {
  if (view === null) return { done: 0, words: 'no longer a member' };
  const { state, step, steps } = view;
  // The newest heartbeat of a node that has not begun still has the steps of its last round.
  if (view.round !== round || state === 'awaiting') {
    return { done: 0, words: state === 'awaiting' ? 'has not begun' : `${state}, has not begun this round` };
  }
  if (state === 'publishing') return { done: 1, words: state };
  if (state !== 'training') return { done: 0, words: state };
  return { done: steps > 0 ? step / steps : 0, words: `training, step ${step} of ${steps}` };
}
