import { isSwarmError } from '../../common/errors.ts';
import type { CoordinatorClock, NodeJobStatus } from '../../protocol/api/node.ts';
import { request } from '../contact/requests.ts';
import type { NodeDeps } from '../jobs/context.ts';

/**
 * Number of requests that measure the clock of one coordinator. The request with the shortest round trip counts,
 * because it was delayed least.
 */
const EXCHANGES = 3;
/** Maximum time of all measurements, in milliseconds. It is short, because the user of `lora-swarm doctor` waits. */
const MAX_MS = 5_000;

/**
 * Measures the clocks of coordinators as NTP does (RFC 5905, section 8), with the assumption that a
 * coordinator reads its clock in the middle of the round trip. Leaves out coordinators that do not answer,
 * for example because they run an older version.
 */
export async function coordinatorClocks(
  jobs: readonly Pick<NodeJobStatus, 'coordinator'>[],
  deps: Pick<NodeDeps, 'network' | 'clock'>,
): Promise<CoordinatorClock[]> {
  const signal = AbortSignal.timeout(MAX_MS);
  const peers = jobs.flatMap(({ coordinator: { peer, connected } }) =>
    connected && peer !== null ? [peer] : [],
  );
  const all = await Promise.all([...new Set(peers)].map((peer) => measure(peer, deps, signal)));
  return all.filter((one) => one !== null);
}

async function measure(
  coordinator: string,
  deps: Pick<NodeDeps, 'network' | 'clock'>,
  signal: AbortSignal,
): Promise<CoordinatorClock | null> {
  const { clock } = deps;
  let best: CoordinatorClock | null = null;
  try {
    for (let i = 0; i < EXCHANGES; i++) {
      const [sentAt, since] = [clock.now(), clock.monotonic()];
      const { at } = await request(deps, coordinator, 'clock', {}, signal);
      const roundTripMs = clock.monotonic() - since;
      const offsetMs = at - (sentAt + roundTripMs / 2);
      if (best === null || roundTripMs < best.roundTripMs) best = { coordinator, offsetMs, roundTripMs };
    }
  } catch (error) {
    // Ignore a failed request, because the doctor reports a lost connection itself.
    if (!isSwarmError(error) && !signal.aborted) throw error;
  }
  return best;
}
