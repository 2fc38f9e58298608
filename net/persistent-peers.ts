import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import type { Clock } from '../common/clock.ts';
import { writeDurably } from '../common/durable.ts';
import { isSwarmError } from '../common/errors.ts';
import type { Logger } from '../common/logger.ts';

/** First wait after a failed dial; doubles with each failure. */
const BACKOFF_MS = 500;
const BACKOFF_LIMIT_MS = 60_000;
/** Connected peers are looked at this often too, in case no event told that one is gone. */
const CHECK_MS = 15_000;
/** Addresses worth remembering, of coordinators and their standbys; the one that was longest not asked for makes room. */
const REMEMBERED = 256;

const fileSchema = z.strictObject({
  version: z.literal(1),
  addresses: z.array(z.string().max(512)).max(REMEMBERED),
});

export interface PersistentPeersDeps {
  clock: Clock;
  log: Logger;
  /** Uniform in [0, 1). */
  random: () => number;
  /** Connects and returns the peer id found there. */
  dial(address: string): Promise<string>;
  isConnected(peer: string): boolean;
}

interface Kept {
  readonly address: string;
  /** Who was met there last. */
  peer: string | null;
  failures: number;
  dialling: boolean;
  cancel: () => void;
}

/** Addresses that a connection is wanted to, for ever: dialled again with exponential back-off, jitter and no end. */
export class PersistentPeers {
  readonly #path: string;
  readonly #deps: PersistentPeersDeps;
  readonly #kept = new Map<string, Kept>();
  /** Least recently asked for first. */
  readonly #remembered = new Set<string>();
  #writing: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: { path: string }, deps: PersistentPeersDeps) {
    this.#path = options.path;
    this.#deps = deps;
  }

  /** Takes up what earlier runs remembered. A damaged file costs the memory, not the start. */
  async start(): Promise<void> {
    try {
      const { addresses } = fileSchema.parse(JSON.parse(await readFile(this.#path, 'utf8')));
      for (const address of addresses) this.#remembered.add(address);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) {
        this.#deps.log.warn({ path: this.#path, error }, 'peers.file_unreadable');
      }
    }
    for (const address of this.#remembered) this.add(address, { remember: false });
  }

  add(address: string, { remember }: { remember: boolean }): void {
    if (remember) this.#remember(address);
    if (this.#kept.has(address)) return;
    const kept: Kept = { address, peer: null, failures: 0, dialling: false, cancel: () => {} };
    this.#kept.set(address, kept);
    void this.#attempt(kept);
  }

  #remember(address: string): void {
    this.#remembered.delete(address);
    for (const oldest of this.#remembered) {
      if (this.#remembered.size < REMEMBERED) break;
      this.#remembered.delete(oldest);
      this.#kept.get(oldest)?.cancel();
      this.#kept.delete(oldest);
    }
    this.#remembered.add(address);
    this.#save();
  }

  isKept(peer: string): boolean {
    return [...this.#kept.values()].some((kept) => kept.peer === peer);
  }

  /** To be called when the last connection to a peer is gone. */
  lost(peer: string): void {
    for (const kept of this.#kept.values())
      if (kept.peer === peer && !kept.dialling) this.#later(kept, this.#backoff(0));
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const kept of this.#kept.values()) kept.cancel();
    await this.#writing;
  }

  async #attempt(kept: Kept): Promise<void> {
    kept.cancel();
    if (kept.peer !== null && this.#deps.isConnected(kept.peer)) return this.#later(kept, CHECK_MS);
    kept.dialling = true;
    try {
      kept.peer = await this.#deps.dial(kept.address);
      if (kept.failures > 0)
        this.#deps.log.info({ ...kept, dialling: undefined, cancel: undefined }, 'peers.reached');
      kept.failures = 0;
      this.#later(kept, CHECK_MS);
    } catch (error) {
      kept.failures++;
      const waitMs = this.#backoff(kept.failures);
      const code = isSwarmError(error) ? error.message : String(error);
      // The first failure is news; the hundredth is not.
      const level = kept.failures === 1 ? 'warn' : 'debug';
      this.#deps.log[level](
        { address: kept.address, failures: kept.failures, waitMs, error: code },
        'peers.unreachable',
      );
      this.#later(kept, waitMs);
    } finally {
      kept.dialling = false;
    }
  }

  /** Between half and one and a half times the nominal wait, so that a restarted peer is not met by all at once. */
  #backoff(failures: number): number {
    const nominal = Math.min(BACKOFF_LIMIT_MS, BACKOFF_MS * 2 ** Math.max(0, failures - 1));
    return nominal * (0.5 + this.#deps.random());
  }

  #later(kept: Kept, ms: number): void {
    kept.cancel();
    if (this.#stopped || this.#kept.get(kept.address) !== kept) return;
    kept.cancel = this.#deps.clock.after(ms, () => void this.#attempt(kept));
  }

  #save(): void {
    const text = (): string =>
      `${JSON.stringify({ version: 1, addresses: [...this.#remembered] }, null, 2)}\n`;
    this.#writing = this.#writing
      .then(() => writeDurably(this.#path, text(), { mode: 0o600 }))
      .catch((error: unknown) => this.#deps.log.error({ path: this.#path, error }, 'peers.not_saved'));
  }
}
