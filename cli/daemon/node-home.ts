/** What the command `node` says about a home that a running node uses, or that belongs to further jobs. */
import { commonError } from '../../common/common-errors.ts';
import { isSwarmError } from '../../index.ts';
import type { KnownJob } from '../../node/store/known-jobs.ts';
import { withHome } from '../command-name.ts';

const IN_USE =
  '"lora-swarm status" shows the node that runs there. To add a job, run "lora-swarm node drain", then "lora-swarm node -" with the new invite; from then on, "lora-swarm node" works for all jobs of this home. A second node needs another folder after --home';

/**
 * Adds to the error about a home in use how its node gets a further job.
 * @param homeFlag the result of `homeFlag` (see views/thanks.ts) for the node
 */
export function withAdviceInUse(error: unknown, homeFlag: string): unknown {
  if (!isSwarmError(error, 'HOME_LOCKED')) return error;
  const next = withHome(IN_USE, homeFlag);
  return commonError('HOME_LOCKED', error.message, error.values, { cause: error, next });
}

/** Says which jobs a node leaves out, and how it works for them too. */
export function leftOutText(jobs: readonly KnownJob[], homeFlag: string): string {
  const names = jobs.map(({ name, job, addresses }) => name ?? job?.slice(0, 12) ?? addresses[0]);
  const advice = withHome('start "lora-swarm node" without an invite to work for all of them', homeFlag);
  return `${names.join(', ')}; ${advice}`;
}
