import type { Clock } from '../../common/clock.ts';
import type { Logger } from '../../common/logger.ts';

export interface WatchdogOptions {
  /** @default 5000 */
  intervalMs?: number;
  /** How long after connecting, and how long in a row, gossip may be silent. @default 10000 */
  graceMs?: number;
}

export interface WatchdogDeps {
  clock: Clock;
  log: Logger;
  /** Peers that are connected and speak gossip, since when, and whether it flows. */
  survey(): Promise<readonly { peer: string; connectedAt: number; flows: boolean }[]>;
  /** Hangs up and connects anew. */
  reconnect(peer: string): Promise<void>;
}

/**
 * Repairs peers that are connected but deaf. A gossip stream ends when a send buffer overflows or an oversized
 * message arrives; gossipsub opens a new one only with a new connection, so without this the peer would stay mute for
 * as long as the old one lives (ChainSafe/js-libp2p-gossipsub#456, ChainSafe/lodestar#10079).
 */
export class Watchdog {
  readonly #intervalMs: number;
  readonly #graceMs: number;
  readonly #deps: WatchdogDeps;
  /** When each peer was first seen without gossip. */
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
        .catch((error: unknown) => this.#deps.log.warn({ error }, 'watchdog.failed'))
        .finally(() => {
          if (!this.#stopped) this.start();
        });
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel();
  }

  /** One round of inspection. */
  async check(): Promise<void> {
    const { clock, log } = this.#deps;
    const now = clock.monotonic();
    const peers = await this.#deps.survey();
    // Where the clock has been set back, a connection seems to be of the future: then it is not a new one either.
    const isNew = (ageMs: number): boolean => ageMs >= 0 && ageMs < this.#graceMs;
    const silent = peers.filter(({ flows, connectedAt }) => !flows && !isNew(clock.now() - connectedAt));
    const names = new Set(silent.map(({ peer }) => peer));
    for (const peer of this.#silentSince.keys()) if (!names.has(peer)) this.#silentSince.delete(peer);
    for (const peer of names) {
      const since = this.#silentSince.get(peer) ?? now;
      this.#silentSince.set(peer, since);
      if (now - since < this.#graceMs) continue;
      this.#silentSince.delete(peer);
      log.warn({ peer, silentMs: now - since }, 'watchdog.gossip_silent');
      await this.#deps
        .reconnect(peer)
        .catch((error: unknown) => log.warn({ peer, error }, 'watchdog.repair_failed'));
    }
  }
}
