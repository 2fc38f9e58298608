import { randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';
import type { Logger } from '../common/logger.ts';
import type { Clock } from '../common/time/clock.ts';
import type { BlobProof } from '../protocol/access/job-key.ts';
import { JOB_KEY_BYTES, type JobKey, provesMembership } from '../protocol/access/job-key.ts';
import { encodeTicket } from '../protocol/access/ticket.ts';
import { sha256 } from '../protocol/cbor.ts';
import type { BlobReader } from '../storage/blob-readers.ts';
import { registryError } from './errors.ts';
import { openRegistry } from './open.ts';
import { databaseOf, type Registry } from './registry.ts';
import { KEY_ID } from './share.ts';
import type { AdapterVersion } from './version.ts';

/** Milliseconds between two readings of the shares of a registry. A reading is one query of the database. */
const LOOK_MS = 2_000;

/**
 * Maximum time in milliseconds for which versions are served while the registry cannot be read. A database
 * that is only locked can be read again within this time. After this time, nothing is served, because the
 * user may have ended a share.
 */
const STALE_MS = 30_000;

/**
 * Lets the daemons of this user serve a version, until `endShare` is called or the version is removed.
 * @param addresses multiaddrs of a daemon that serves the registry
 * @returns the ticket, with which anyone can fetch the version. A version that is shared already keeps its key
 */
export async function keepShare(
  registry: Registry,
  version: AdapterVersion,
  addresses: readonly string[],
): Promise<string> {
  // Checks the files now, because a daemon that lacks a file answers as if the ticket were wrong.
  await registry.folder(version);
  const { name, number } = version;
  registry.shares.keep({ name, number }, randomBytes(JOB_KEY_BYTES), registry.clock.now());
  const { key } = registry.shares.all().find((share) => share.name === name && share.number === number)!;
  const envelope = registry.envelope(version);
  return encodeTicket({
    addresses: [...addresses],
    version: version.digest,
    envelope: { digest: sha256(envelope), size: envelope.byteLength },
    key,
  });
}

/**
 * Ends the share of a version. The ticket of the version stops working within seconds.
 * @throws SwarmError SHARE_UNKNOWN
 */
export function endShare(registry: Registry, { name, number, label }: AdapterVersion): void {
  if (registry.shares.end({ name, number })) return;
  throw registryError('SHARE_UNKNOWN', `no daemon shares ${label}`, { version: label });
}

/** A file of a shared version, or its signed manifest. */
interface SharedBlob {
  /** The versions to which the blob belongs, each with the key of its ticket. */
  readonly versions: { readonly digest: string; readonly key: JobKey }[];
  /** The bytes of the signed manifest; null for a file, whose bytes are in the registry. */
  readonly bytes: Uint8Array | null;
}

export interface SharedVersionsDeps {
  readonly clock: Clock;
  readonly log: Logger;
  /** Peer id of the daemon. */
  readonly self: string;
  /**
   * Returns whether sharing is paused. While it is paused, the daemon serves no version.
   * @default never paused
   */
  readonly isPaused?: () => boolean;
}

/** The versions of a registry that a daemon serves. A peer gets a version only if it proves that it has the ticket. */
export class SharedVersions {
  readonly #home: string | null;
  readonly #deps: SharedVersionsDeps;
  #registry: Registry | null = null;
  /** The shares that were last read from the registry, as text, to notice changes. */
  #known = '[]';
  #blobs: ReadonlyMap<string, SharedBlob> = new Map();
  /** Inode number of the database file; null if the file does not exist. */
  #inode: number | null = null;
  #hasFailed = false;
  /** Time at which the registry was last read successfully, on the monotonic clock. */
  #readAt = 0;
  #looking: Promise<void> = Promise.resolve();
  #cancel = (): void => {};
  #isStopped = false;

  /**
   * @param options.home folder of the registry, which need not exist yet; null if no registry is served
   */
  constructor({ home }: { home: string | null }, deps: SharedVersionsDeps) {
    this.#home = home;
    this.#deps = deps;
  }

  /** Reads the shares of the registry now and every 2 s. */
  start(): void {
    this.#looking = this.look().finally(() => {
      if (!this.#isStopped) this.#cancel = this.#deps.clock.after(LOOK_MS, () => this.start());
    });
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#cancel();
    await this.#looking;
    this.#registry?.close();
  }

  /** Reads the shares of the registry. If the registry cannot be read for 30 s, serves nothing. */
  async look(): Promise<void> {
    const { clock, log } = this.#deps;
    try {
      const path = this.#home === null ? null : databaseOf(this.#home);
      const inode = path === null ? null : (statSync(path, { throwIfNoEntry: false })?.ino ?? null);
      // If the database was deleted or replaced, close its old file. The old file never changes, so a share
      // that the user ends now would stay in it.
      if (inode !== this.#inode) this.#serveNothing();
      this.#inode = inode;
      if (this.#home === null || inode === null) return;
      this.#registry ??= await openRegistry({ home: this.#home }, { clock });
      this.#read(this.#registry);
      this.#hasFailed = false;
      this.#readAt = clock.monotonic();
    } catch (error) {
      if (!this.#hasFailed) log.warn({ registry: this.#home, error }, 'shares-unreadable');
      this.#hasFailed = true;
      if (clock.monotonic() - this.#readAt >= STALE_MS) this.#serveNothing();
    }
  }

  /** Returns whether a peer may fetch a blob of the registry. */
  mayFetch(requester: string, digest: string, proof: BlobProof | null): boolean {
    if (proof === null || this.#deps.isPaused?.()) return false;
    const ends = { requester, holder: this.#deps.self };
    const versions = this.#blobs.get(digest)?.versions ?? [];
    return versions.some((version) => provesMembership(proof, version.digest, version.key, ends));
  }

  /** Opens a blob of a shared version; null if the file is absent. */
  async reader(digest: string): Promise<BlobReader | null> {
    const bytes = this.#blobs.get(digest)?.bytes ?? null;
    if (bytes === null) return this.#registry?.blobs.reader(digest) ?? null;
    return {
      size: bytes.byteLength,
      isOld: false,
      readInto: async (offset, targets) => {
        let at = offset;
        for (const target of targets) {
          target.set(bytes.subarray(at, at + target.length));
          at += target.length;
        }
      },
      close: async () => {},
    };
  }

  #serveNothing(): void {
    this.#blobs = new Map();
    this.#known = '[]';
    this.#registry?.close();
    this.#registry = null;
  }

  #read(registry: Registry): void {
    const shares = registry.shares.all();
    const text = JSON.stringify(shares.map(({ name, number, key }) => [name, number, [...key]]));
    if (text === this.#known) return;
    const blobs = new Map<string, SharedBlob>();
    for (const { name, number, key } of shares) {
      const version = registry.resolve({ name, number });
      const envelope = registry.envelope(version);
      const owner = { digest: version.digest, key: { id: KEY_ID, key } };
      const add = (digest: string, bytes: Uint8Array | null): void => {
        const known = blobs.get(digest);
        if (known === undefined) blobs.set(digest, { versions: [owner], bytes });
        else known.versions.push(owner);
      };
      add(sha256(envelope), envelope);
      for (const { digest } of version.manifest.files) add(digest, null);
    }
    this.#blobs = blobs;
    this.#known = text;
  }
}
