/**
 * Repairs gossip between connected peers. Written for `@libp2p/gossipsub` 17.1.1. A gossip stream ends when a send
 * buffer overflows or an oversized message arrives. gossipsub opens a new stream only with a new connection
 * (ChainSafe/js-libp2p-gossipsub#456, ChainSafe/lodestar#10079). libp2p/js-libp2p#3531 left "re-establishing a stream
 * that closes while its connection stays open" as a follow-up. With that follow-up, this file would not be needed.
 */

import type { Logger } from '../../common/logger.ts';
import type { Clock } from '../../common/time/clock.ts';

export interface WatchdogOptions {
  /** Milliseconds between two checks. @default 5000 */
  intervalMs?: number;
  /**
   * Time without gossip after which a peer is reconnected, in milliseconds. A new connection is not checked before this
   * time has passed. @default 10000
   */
  graceMs?: number;
}

export interface WatchdogDeps {
  clock: Clock;
  log: Logger;
  /** Lists the connected peers that support gossip, with the time of their connection and whether messages flow. */
  survey(): Promise<readonly { peer: string; connectedAt: number; flows: boolean }[]>;
  /** Closes the connection to a peer, so that a new one is opened. */
  reconnect(peer: string): Promise<void>;
}

/** Reconnects peers that are connected but exchange no gossip. */
export class Watchdog {
  readonly #intervalMs: number;
  readonly #graceMs: number;
  readonly #deps: WatchdogDeps;
  /** Time at which each peer was first found without gossip, in monotonic milliseconds. */
  readonly #silentSince = new Map<string, number>();
  #cancel: () => void = () => {};
  #stopped = false;

  constructor({ intervalMs = 5_000, graceMs = 10_000 }: WatchdogOptions, deps: WatchdogDeps) {
    this.#intervalMs = intervalMs;
    this.#graceMs = graceMs;
    this.#deps = deps;
  }

  start(): void {
    this.#cancel = this.#deps.clock.after(this.#intervalMs, () => {
      this.check()
        .catch((error: unknown) => this.#deps.log.warn({ error }, 'gossip-check-failed'))
        .finally(() => {
          if (!this.#stopped) this.start();
        });
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel();
  }

  /** Checks all peers once, and reconnects those that have been without gossip for too long. */
  async check(): Promise<void> {
    const { clock, log } = this.#deps;
    const now = clock.monotonic();
    const peers = await this.#deps.survey();
    // If the clock was set back, a connection may seem to start in the future. Such a connection does not count as new.
    const isNew = (ageMs: number): boolean => ageMs >= 0 && ageMs < this.#graceMs;
    const silent = peers.filter(({ flows, connectedAt }) => !flows && !isNew(clock.now() - connectedAt));
    const names = new Set(silent.map(({ peer }) => peer));
    for (const peer of this.#silentSince.keys()) if (!names.has(peer)) this.#silentSince.delete(peer);
    for (const peer of names) {
      const since = this.#silentSince.get(peer) ?? now;
      this.#silentSince.set(peer, since);
      if (now - since < this.#graceMs) continue;
      this.#silentSince.delete(peer);
      log.warn({ peer, silentMs: now - since }, 'gossip-silent');
      await this.#deps
        .reconnect(peer)
        .catch((error: unknown) => log.warn({ peer, error }, 'gossip-repair-failed'));
    }
  }
}
