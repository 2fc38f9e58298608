/** A registry of adapters on this machine: immutable versions, moving tags, and the files of the versions as blobs. */
import { join } from 'node:path';
import { makeFolder } from '../common/files/folders.ts';
import type { Clock } from '../common/time/clock.ts';
import { digestSchema } from '../protocol/ids.ts';
import { type Signer, signMessage, verifyMessage } from '../protocol/signing.ts';
import { type VersionManifest, versionMetricsSchema } from '../protocol/version-manifest.ts';
import { FileBlobStore } from '../storage/blob-store.ts';
import { Database } from '../storage/database.ts';
import { contentOf } from './content.ts';
import { registryError } from './errors.ts';
import { FolderViews } from './folder-views.ts';
import { LATEST, labelOf, requireNewName, requireReference, type VersionReference } from './reference.ts';
import { HoldTable } from './store/holds.ts';
import { SCHEMA } from './store/schema.ts';
import { ShareTable } from './store/shares.ts';
import { type TagChange, TagTable } from './store/tags.ts';
import { type Measurement, VersionTable } from './store/versions.ts';
import { type TagMove, TagWriter } from './tag-writer.ts';
import type { AdapterVersion } from './version.ts';
import { VersionLookup } from './version-lookup.ts';

export interface RegistryOptions {
  /** Folder of the registry. It is created if it is missing. */
  readonly home: string;
}

export interface RegistryDeps {
  readonly clock: Clock;
  /** Returns the signer with the machine's key. Called when something is signed or a tag moves. */
  readonly signer: () => Promise<Signer>;
}

/** A version to record. Its files must already be blobs of the registry. */
export interface VersionToRecord {
  /** The signed manifest. */
  readonly envelope: Uint8Array;
  /** Tags besides `latest` to move to the version. @default none */
  readonly tags?: readonly string[];
  /** Reason for the addition, which the tag log shows. */
  readonly reason: string;
}

/** Returns the path of a registry's database. */
export function databaseOf(home: string): string {
  return join(home, 'registry.sqlite');
}

/** A registry. Several processes may use the same registry at the same time. */
export class Registry {
  /** Folder of the registry. */
  readonly home: string;
  /** @internal */
  readonly blobs: FileBlobStore;
  /** Protects files from garbage collection. @internal */
  readonly holds: HoldTable;
  /** Versions that daemons serve. @internal */
  readonly shares: ShareTable;
  /** @internal */
  readonly clock: Clock;
  readonly #db: Database;
  readonly #versions: VersionTable;
  readonly #tags: TagTable;
  readonly #writer: TagWriter;
  readonly #lookup: VersionLookup;
  readonly #views: FolderViews;
  readonly #signer: () => Promise<Signer>;

  private constructor({ home }: RegistryOptions, deps: RegistryDeps, db: Database, blobs: FileBlobStore) {
    this.home = home;
    this.blobs = blobs;
    this.clock = deps.clock;
    this.holds = new HoldTable({ db });
    this.shares = new ShareTable({ db });
    this.#db = db;
    this.#versions = new VersionTable({ db });
    this.#tags = new TagTable({ db });
    this.#writer = new TagWriter({ tags: this.#tags, versions: this.#versions });
    this.#lookup = new VersionLookup({ tags: this.#tags, versions: this.#versions });
    this.#views = new FolderViews({ home }, { blobs });
    this.#signer = deps.signer;
  }

  /** Opens a registry. Only `openRegistry` calls this method. @internal */
  static async open(options: RegistryOptions, deps: RegistryDeps): Promise<Registry> {
    await makeFolder(options.home, { mode: 0o700, next: 'name another folder with SWARM_REGISTRY' });
    const blobs = await FileBlobStore.open({ home: options.home, shared: true }, deps);
    const db = new Database({ path: databaseOf(options.home), schema: SCHEMA });
    return new Registry(options, deps, db, blobs);
  }

  /** Closes the database. The registry cannot be used afterwards. */
  close(): void {
    this.#db.close();
  }

  /** Returns the names of all versions that have not been removed, sorted, each name once. */
  names(): string[] {
    return this.#versions.names();
  }

  /** Returns the versions of a name, oldest first. With `removed: true`, includes removed versions. */
  versions(name: string, { removed = false }: { removed?: boolean } = {}): AdapterVersion[] {
    return this.#versions
      .ofName(name)
      .filter(({ removedAt }) => removed || removedAt === null)
      .map((stored) => this.#lookup.view(stored));
  }

  /**
   * Returns the version that a reference names now.
   * @param reference `NAME` (the tag `latest`), `NAME:TAG`, `NAME:vN` or `NAME@DIGEST`
   * @throws SwarmError REFERENCE_INVALID, VERSION_UNKNOWN, TAG_UNKNOWN, VERSION_REMOVED
   */
  resolve(reference: string | VersionReference): AdapterVersion {
    const parsed = typeof reference === 'string' ? requireReference(reference) : reference;
    const stored = this.#lookup.find(parsed);
    if (stored.removedAt === null) return this.#lookup.view(stored);
    const label = labelOf(stored);
    throw registryError('VERSION_REMOVED', `${label} has been removed`, { version: label });
  }

  /** Returns the version with this digest, even if it was removed; null if the registry does not know the digest. */
  byDigest(digest: string): AdapterVersion | null {
    const stored = digestSchema.safeParse(digest).success ? this.#versions.byDigest(digest) : null;
    return stored === null ? null : this.#lookup.view(stored);
  }

  /** Returns the oldest version that has a file with this digest and has not been removed; null if there is none. */
  withFile(digest: string): AdapterVersion | null {
    const stored = this.#versions.withFile(digest).find(({ removedAt }) => removedAt === null);
    return stored === undefined ? null : this.#lookup.view(stored);
  }

  /** Returns the version with the same name, base and files, even if it was removed; null if there is none. */
  sameContent(manifest: Pick<VersionManifest, 'name' | 'base' | 'files'>): AdapterVersion | null {
    const stored = this.#versions.byContent(manifest.name, contentOf(manifest));
    return stored === null ? null : this.#lookup.view(stored);
  }

  /** Returns the signed manifest of a version. @internal */
  envelope(version: Pick<AdapterVersion, 'name' | 'number'>): Uint8Array {
    return this.#versions.get(version.name, version.number)!.envelope;
  }

  /**
   * Returns a PEFT folder with the files of a version. The folder belongs to the registry: do not write to it.
   * @throws SwarmError VERSION_DAMAGED if a file is missing, or differs from its digest
   */
  folder(version: AdapterVersion): Promise<string> {
    return this.#views.open(version);
  }

  /** Deletes the folders of the versions for which `keep` returns false. @internal */
  sweepFolders(keep: (name: string, number: number) => boolean): Promise<void> {
    return this.#views.sweep(keep, this.clock.now());
  }

  /** Signs a manifest with the machine's key. @internal */
  async sign(manifest: VersionManifest): Promise<Uint8Array> {
    return signMessage('version-manifest', manifest, await this.#signer());
  }

  /**
   * Records a version whose files are blobs already, and moves the tag `latest` to the version. If the name already has
   * a version with the same base and files, moves `latest` to that version instead, and undoes its removal if it was
   * removed. If `latest` names a later checkpoint of the same job, `latest` stays there.
   * @returns the version, and whether it is new
   * @throws SwarmError SIGNATURE_INVALID, MESSAGE_*, TAG_NAME, VERSION_NAME
   * @internal
   */
  async record(given: VersionToRecord): Promise<{ version: AdapterVersion; created: boolean }> {
    const { message: manifest, digest } = verifyMessage('version-manifest', given.envelope);
    const { name } = manifest;
    const { peerId: author } = await this.#signer();
    const content = contentOf(manifest);
    return this.#db.transaction(() => {
      const same = this.#versions.byContent(name, content);
      const number = same?.number ?? this.#versions.nextNumber(name);
      const now = this.clock.now();
      if (same === null) {
        requireNewName(name);
        const stored = {
          name,
          number,
          digest,
          content,
          envelope: given.envelope,
          addedAt: now,
          removedAt: null,
        };
        this.#versions.insert(
          stored,
          manifest.files.map((file) => file.digest),
        );
      } else if (same.removedAt !== null) this.#versions.setRemoved(name, number, null);
      const move = { author, at: now, reason: given.reason };
      // A version that is already there stays where it is in the order of additions.
      const isAdded = same === null || same.removedAt !== null;
      const tags = new Set([...(isAdded ? [LATEST] : []), ...(given.tags ?? [])]);
      if (this.#lookup.hasLater(manifest)) tags.delete(LATEST);
      for (const tag of tags) this.#writer.set({ name, number, tag }, move);
      return { version: this.#lookup.view(this.#versions.get(name, number)!), created: same === null };
    });
  }

  /** Moves a tag to a version. @throws SwarmError TAG_NAME, and the errors of `resolve` */
  async tag(reference: string | VersionReference, tag: string, reason: string): Promise<TagChange> {
    const { peerId: author } = await this.#signer();
    return this.#db.transaction(() => {
      const { name, number } = this.resolve(reference);
      return this.#writer.set({ name, number, tag }, { author, at: this.clock.now(), reason });
    });
  }

  /** Deletes a tag; its log stays. @throws SwarmError TAG_NAME for `latest`, TAG_UNKNOWN */
  untag(name: string, tag: string, reason: string): Promise<TagChange> {
    return this.#move((move) => this.#writer.delete({ name, tag }, move), reason);
  }

  /**
   * Undoes the newest change of a tag that has not been undone yet, so that the tag names the version before that
   * change again. If that version has been removed, the tag goes back to an earlier version.
   * @throws SwarmError TAG_UNKNOWN, ROLLBACK_EMPTY
   */
  rollback(name: string, tag: string, reason: string): Promise<TagChange> {
    return this.#move((move) => this.#writer.rollback({ name, tag }, move), reason);
  }

  /** Returns the tags of a name with the numbers of their versions, sorted by tag. */
  tags(name: string): Map<string, number> {
    return this.#tags.all(name);
  }

  /** Returns the changes of a name's tags, oldest first. @param tag the tag; null for all tags */
  tagLog(name: string, tag: string | null = null): TagChange[] {
    return this.#tags.log(name, tag);
  }

  /**
   * Stores metrics that were measured after the version was added.
   * @param source name of the program or file that measured them, such as the name of a task file
   */
  measure(
    version: Pick<AdapterVersion, 'name' | 'number'>,
    source: string,
    metrics: Measurement['metrics'],
  ): void {
    const checked = versionMetricsSchema.parse(metrics);
    const measurement = { at: this.clock.now(), source, metrics: checked };
    this.#versions.measure(version.name, version.number, measurement);
  }

  /** Returns the measurements of a version, oldest first, without the metrics in its manifest. */
  measurements(version: Pick<AdapterVersion, 'name' | 'number'>): Measurement[] {
    return this.#versions.measurements(version.name, version.number);
  }

  /**
   * Removes a version. Its files stay until garbage collection deletes them, and daemons no longer serve the
   * version. If the tag `latest` names the version, the tag moves to the newest version that is left. If the
   * version has other tags, `force: true` is needed, and deletes these tags.
   * @throws SwarmError VERSION_TAGGED, and the errors of `resolve`
   */
  async remove(reference: string | VersionReference, { force = false } = {}): Promise<AdapterVersion> {
    const { peerId: author } = await this.#signer();
    return this.#db.transaction(() => {
      const version = this.resolve(reference);
      const at = this.clock.now();
      this.#writer.leave(version, { force, author, at });
      this.#versions.setRemoved(version.name, version.number, at);
      this.shares.end(version);
      return { ...version, removedAt: at };
    });
  }

  /** Records in which folder a base was seen, so that later exports find it. @internal */
  rememberBase(digest: string, folder: string): void {
    this.#versions.rememberBase(digest, folder, this.clock.now());
  }

  /** Returns the folder where a base was last seen on this machine. The caller must check the digest. */
  baseFolder(digest: string): string | null {
    return this.#versions.baseFolder(digest);
  }

  /** Runs `work` while no other process can write to the registry. @internal */
  exclusively<T>(work: () => T): T {
    return this.#db.transaction(work);
  }

  async #move(change: (move: TagMove) => TagChange, reason: string): Promise<TagChange> {
    const { peerId: author } = await this.#signer();
    return this.#db.transaction(() => change({ author, at: this.clock.now(), reason }));
  }
}
