import { BELIEF_UPDATES } from '../../verify/scores/belief.ts';
import type { RunContext } from '../context.ts';
import type { PresentPeer, Standing } from '../round/plan.ts';

type Context = Pick<RunContext, 'job' | 'deps'>;

/** Returns the facts about a node that the state machine needs when the node is ready to train. */
export function presentPeer(
  context: Context,
  { peer, speed, standing = 'good' }: { peer: string; speed: number; standing?: Standing },
): PresentPeer {
  return { speed, shares: newestShares(context, peer), standing };
}

/** Returns the shares of a node's newest scored updates, newest first. */
export function newestShares({ job, deps }: Context, peer: string): number[] {
  return deps.store.scores.shares(job, peer, { before: Number.MAX_SAFE_INTEGER, limit: BELIEF_UPDATES });
}
