import type { ContactPort } from './port.ts';
import { request } from './requests.ts';

/**
 * Asks the coordinator how much this node has contributed to the job, and stores the answer. Does nothing if the node
 * has made no update for the job.
 * @throws SwarmError RPC_METHOD_UNKNOWN if the coordinator has an older version; the errors of the request
 */
export async function askContribution(
  { deps, coordinator, job }: ContactPort,
  signal: AbortSignal,
): Promise<void> {
  const { totals } = deps.store;
  if (!totals.hasWork(job)) return;
  const { contribution } = await request(deps, coordinator, 'contribution', { job }, signal);
  if (contribution !== null) totals.saveContribution(job, contribution);
}
