import { raceSignal } from 'race-signal';
import { isSwarmError } from '../../common/errors.ts';
import type { Clock } from '../../common/time/clock.ts';
import { withProgress } from '../../common/time/progress-deadline.ts';
import { netError } from '../../net/errors.ts';
import type { SwarmNetwork } from '../../net/network.ts';
import { BLOB_RANGE_BYTES } from '../../protocol/limits.ts';
import { transferMs } from '../../protocol/requests/rpc.ts';

/** Number of holders that are asked for one blob at the same time. */
export const HOLDERS = 8;
/**
 * Time in milliseconds in which a group of holders must deliver TURN_BYTES. It is twice the time that a range may take, so a
 * range that fails can be fetched from another holder of the group.
 */
export const TURN_MS = 2 * transferMs(BLOB_RANGE_BYTES);
/** Number of bytes for which a group keeps its turn. A holder with the lowest supported speed can send twice as much in TURN_MS. */
const TURN_BYTES = BLOB_RANGE_BYTES;
/** Codes of a fetch after which other holders are asked. */
const FAILED: readonly string[] = ['BLOB_UNAVAILABLE', 'BLOB_CORRUPT', 'BLOB_SIZE', 'DEADLINE_EXCEEDED'];

interface Options {
  /** Peers that may have the blob, in the order in which they are asked. */
  readonly holders: readonly string[];
  /** Whether to fetch the blob even if the store has it. @default false */
  readonly again?: boolean;
  /** Maximum time for all groups together, in milliseconds. @default no limit, because a large swarm needs time */
  readonly totalMs?: number;
  readonly signal: AbortSignal;
}

interface Deps {
  readonly network: Pick<SwarmNetwork, 'fetchBlob'>;
  readonly clock: Clock;
}

/**
 * Fetches a blob from HOLDERS peers at a time. A group that is too slow loses its turn, so it does not use up the time of the
 * others. The next group continues with the ranges that have arrived.
 * @throws SwarmError BLOB_UNAVAILABLE if no group gives the blob in time; the errors of the local store; the signal's reason
 */
export async function fetchInTurns(
  ref: { digest: string; size: number },
  { holders, again = false, totalMs = Infinity, signal }: Options,
  { network, clock }: Deps,
): Promise<void> {
  const reasons: string[] = [];
  let asked = 0;
  const until = clock.monotonic() + totalMs;
  // Without holders, the store may still have the blob, and one call finds out.
  for (let at = 0; at === 0 || (at < holders.length && clock.monotonic() < until); at += HOLDERS) {
    const group = holders.slice(at, at + HOLDERS);
    asked += group.length;
    const limits = {
      clock,
      idleMs: TURN_MS,
      totalMs: until - clock.monotonic(),
      signal,
      what: `the fetch of blob ${ref.digest}`,
    };
    let counted = 0;
    try {
      await withProgress(limits, (inner, progressed) => {
        const onProgress = ({ bytes }: { bytes: number }): void => {
          // The number falls if the fetch begins again after damaged bytes.
          counted = Math.min(counted, bytes);
          if (bytes - counted < TURN_BYTES) return;
          counted = bytes;
          progressed();
        };
        const fetching = network.fetchBlob(ref, { holders: group, again, signal: inner, onProgress });
        return raceSignal(fetching, inner);
      });
      return;
    } catch (error) {
      signal.throwIfAborted();
      if (!isSwarmError(error) || !FAILED.includes(error.code)) throw error;
      reasons.push(error.message);
    }
  }
  const text = `none of ${asked} nodes gave blob ${ref.digest} (${reasons.join('; ')})`;
  throw netError('BLOB_UNAVAILABLE', text, { ...ref, holders: asked });
}

/** Sorts peers so that their addresses take turns. The peers at one address keep their order. */
export function inTurns(peers: readonly string[], addressOf: (peer: string) => string): string[] {
  const atAddress = Map.groupBy(peers, addressOf);
  const turn = new Map([...atAddress.values()].flatMap((list) => list.map((peer, i) => [peer, i])));
  return peers.toSorted((a, b) => turn.get(a)! - turn.get(b)!);
}
