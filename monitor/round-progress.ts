/** What the newest heartbeat of a node says about its work in a round. */
export interface RoundWork {
  readonly state: string;
  readonly round: number;
  readonly step: number;
  readonly steps: number;
}

/** States in which the steps of a heartbeat are those of its round. In other states, they can be of an earlier round. */
const WITH_STEPS = ['training', 'busy', 'publishing'];

/** Returns the round of a node with its steps: "21 (4/8)". Leaves out the steps if they can be of an earlier round. */
export function roundWithSteps({ state, round, step, steps }: RoundWork): string {
  return WITH_STEPS.includes(state) && steps > 0 ? `${round} (${step}/${steps})` : String(round);
}

/** Returns the share of the round's steps that a node has made, and its state in words. */
export function progressOf(view: RoundWork | null, round: number): { done: number; words: string } {
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
