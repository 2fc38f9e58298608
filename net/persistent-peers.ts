import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { isSystemError } from '../common/errors.ts';
import { writeDurably } from '../common/files/durable.ts';
import type { Logger } from '../common/logger.ts';
import type { Clock } from '../common/time/clock.ts';
import type { UnreachablePeer } from './network.ts';

/** Pause after the first failed dial. The pause doubles with each further failure. */
const BACKOFF_MS = 500;
const BACKOFF_LIMIT_MS = 60_000;
/** Interval at which connected peers are checked, in case a disconnect event was missed. */
const CHECK_MS = 15_000;
/**
 * Maximum number of saved addresses of coordinators and their standbys. At this number, a new address replaces the
 * least recently used one.
 */
const SAVED_ADDRESSES = 256;

const fileSchema = z.strictObject({
  version: z.literal(1),
  addresses: z.array(z.string().max(512)).max(SAVED_ADDRESSES),
});

export interface PersistentPeersDeps {
  clock: Clock;
  log: Logger;
  /** Returns a random number in [0, 1). */
  random: () => number;
  /** Connects to an address, and returns the id of the peer there. */
  dial(address: string): Promise<string>;
  isConnected(peer: string): boolean;
}

interface PersistentPeer {
  readonly address: string;
  /** Last peer id seen at this address. */
  peer: string | null;
  failures: number;
  /** Error of the newest attempt; empty after a success. */
  reason: string;
  /** Time of the next attempt, on the monotonic clock. */
  nextAt: number;
  dialling: boolean;
  cancel: () => void;
}

/** Keeps connections to a set of addresses. Redials without end, with exponential back-off and jitter. */
export class PersistentPeers {
  readonly #path: string;
  readonly #deps: PersistentPeersDeps;
  readonly #peers = new Map<string, PersistentPeer>();
  /** Addresses in the file, least recently used first. */
  readonly #saved = new Set<string>();
  #writing: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: { path: string }, deps: PersistentPeersDeps) {
    this.#path = options.path;
    this.#deps = deps;
  }

  /** Adds the saved addresses to the addresses to dial. A damaged file is logged and ignored. */
  async start(): Promise<void> {
    try {
      const { addresses } = fileSchema.parse(JSON.parse(await readFile(this.#path, 'utf8')));
      for (const address of addresses) this.#saved.add(address);
    } catch (error) {
      if (!isSystemError(error, 'ENOENT')) {
        this.#deps.log.warn({ path: this.#path, error }, 'peers-file-unreadable');
      }
    }
    for (const address of this.#saved) this.add(address, { save: false });
  }

  /**
   * Keeps a connection to an address from now on.
   * @param options.save whether to keep a connection to this address also after a restart of the daemon
   */
  add(address: string, { save }: { save: boolean }): void {
    if (save) this.#save(address);
    if (this.#peers.has(address)) return;
    const entry: PersistentPeer = {
      address,
      peer: null,
      failures: 0,
      reason: '',
      nextAt: 0,
      dialling: false,
      cancel: () => {},
    };
    this.#peers.set(address, entry);
    void this.#attempt(entry);
  }

  #save(address: string): void {
    this.#saved.delete(address);
    for (const oldest of this.#saved) {
      if (this.#saved.size < SAVED_ADDRESSES) break;
      this.#saved.delete(oldest);
      this.#peers.get(oldest)?.cancel();
      this.#peers.delete(oldest);
    }
    this.#saved.add(address);
    this.#write();
  }

  /** Returns whether a peer has answered at one of the persistent addresses. */
  has(peer: string): boolean {
    for (const entry of this.#peers.values()) if (entry.peer === peer) return true;
    return false;
  }

  /** Returns the addresses at which the newest attempts failed. */
  unreachable(): UnreachablePeer[] {
    const now = this.#deps.clock.monotonic();
    return [...this.#peers.values()]
      .filter(({ failures }) => failures > 0)
      .map(({ address, failures, reason, nextAt }) => ({
        address,
        failures,
        reason,
        retryInMs: Math.max(0, nextAt - now),
      }));
  }

  /** Notes that the last connection to a peer has closed. */
  disconnected(peer: string): void {
    for (const entry of this.#peers.values())
      if (entry.peer === peer && !entry.dialling) this.#schedule(entry, this.#backoff(0));
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const entry of this.#peers.values()) entry.cancel();
    await this.#writing;
  }

  async #attempt(entry: PersistentPeer): Promise<void> {
    entry.cancel();
    if (entry.peer !== null && this.#deps.isConnected(entry.peer)) return this.#schedule(entry, CHECK_MS);
    entry.dialling = true;
    try {
      entry.peer = await this.#deps.dial(entry.address);
      if (entry.failures > 0) {
        const { address, peer, failures } = entry;
        this.#deps.log.info({ address, peer, failures }, 'peer-reached');
      }
      entry.failures = 0;
      entry.reason = '';
      this.#schedule(entry, CHECK_MS);
    } catch (error) {
      entry.failures++;
      const waitMs = this.#backoff(entry.failures);
      const reason = error instanceof Error ? error.message : String(error);
      entry.reason = reason;
      // Only the first failure is logged as a warning, because dialling never ends.
      const level = entry.failures === 1 ? 'warn' : 'debug';
      this.#deps.log[level](
        { address: entry.address, failures: entry.failures, waitMs, reason },
        'peer-unreachable',
      );
      this.#schedule(entry, waitMs);
    } finally {
      entry.dialling = false;
    }
  }

  /** Returns 0.5 to 1.5 times the nominal pause, so that not all peers dial a restarted peer at the same time. */
  #backoff(failures: number): number {
    const nominal = Math.min(BACKOFF_LIMIT_MS, BACKOFF_MS * 2 ** Math.max(0, failures - 1));
    return nominal * (0.5 + this.#deps.random());
  }

  #schedule(entry: PersistentPeer, ms: number): void {
    entry.cancel();
    if (this.#stopped || this.#peers.get(entry.address) !== entry) return;
    entry.nextAt = this.#deps.clock.monotonic() + ms;
    entry.cancel = this.#deps.clock.after(ms, () => void this.#attempt(entry));
  }

  #write(): void {
    const text = (): string => `${JSON.stringify({ version: 1, addresses: [...this.#saved] }, null, 2)}\n`;
    this.#writing = this.#writing
      .then(() => writeDurably(this.#path, text(), { mode: 0o600 }))
      .catch((error: unknown) => this.#deps.log.error({ path: this.#path, error }, 'peers-not-saved'));
  }
}
