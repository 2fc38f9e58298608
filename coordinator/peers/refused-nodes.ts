import { ByAddress } from '../../common/limits/by-address.ts';
import { formatDuration } from '../../common/text.ts';
import type { Clock } from '../../common/time/clock.ts';
import type { Heartbeat } from '../../protocol/messages.ts';

type Hold = NonNullable<Heartbeat['hold']>;

/** Time for which a refusal is shown, in milliseconds. A node tries to join again after 30 s at most. */
const SHOWN_MS = 2 * 60_000;
/** Maximum number of refused nodes of a job in memory. */
export const REFUSED_NODES = 256;
/**
 * Maximum number of refused nodes at one network address. In an open job, a stranger can have any number of identities, and
 * must not hide the nodes at other addresses.
 */
export const REFUSED_PER_ADDRESS = 32;

/** A node that the coordinator refuses because of its clock. */
export interface RefusedNode {
  readonly peer: string;
  readonly name: string;
  readonly engine: string;
  readonly hold: Hold;
  /** Time of the last refusal, on the monotonic clock, in milliseconds. */
  readonly at: number;
}

interface Deps {
  readonly clock: Clock;
  readonly network: { networkOf(peer: string): string };
}

/**
 * The nodes of a job that the coordinator has lately refused because of their clocks. Such a node cannot join, so it can
 * send no heartbeat that tells the operator what it waits for.
 */
export class RefusedNodes {
  readonly #deps: Deps;
  readonly #nodes = new ByAddress<RefusedNode>({ total: REFUSED_NODES, perAddress: REFUSED_PER_ADDRESS });

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** Notes a refusal. Returns whether the node was not refused for the same reason before. */
  note(peer: string, node: Omit<RefusedNode, 'peer' | 'at'>): boolean {
    const { clock, network } = this.#deps;
    const isNew = this.get(peer) === null;
    this.#nodes.set(peer, network.networkOf(peer), { ...node, peer, at: clock.monotonic() });
    return isNew;
  }

  /** Forgets a node, because its clock is right now. */
  forget(peer: string): void {
    this.#nodes.delete(peer);
  }

  /** Returns a node that was refused in the last SHOWN_MS; null if it was not refused. */
  get(peer: string): RefusedNode | null {
    const node = this.#nodes.get(peer);
    return node !== undefined && node.at > this.#deps.clock.monotonic() - SHOWN_MS ? node : null;
  }

  /** Returns the nodes that were refused in the last SHOWN_MS. */
  all(): RefusedNode[] {
    return this.#nodes.values().flatMap(({ peer }) => this.get(peer) ?? []);
  }
}

/** Returns the hold of a node whose clock is wrong. @param offMs milliseconds by which the clock of the node is ahead */
export function clockHold(offMs: number): Hold {
  const by = formatDuration(Math.abs(offMs) / 1000);
  return { reason: 'clock', detail: `${by} ${offMs > 0 ? 'ahead of' : 'behind'} the coordinator's clock` };
}
