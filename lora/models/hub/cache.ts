import { copyFile, mkdir, open, readFile, rm, stat, symlink } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { isSystemError } from '../../../common/errors.ts';
import { isAlive, writeDurably } from '../../../common/files/durable.ts';
import { hubError } from './errors.ts';
import { isCommit, repositoryFolder } from './reference.ts';

/**
 * A model's folder in the cache that Hugging Face's tools share: `blobs/<etag>`, `snapshots/<commit>/<file>` with links to
 * blobs, `refs/<revision>` with a commit, and `.no_exist/<commit>/<file>` for files that a commit does not have
 * (huggingface.co/docs/huggingface_hub/guides/manage-cache).
 *
 * We do not use the cache of @huggingface/hub 2.17.5, because its layout differs from the layout of Python's
 * huggingface_hub. For a branch, it names each file's snapshot folder after the last commit of that file, so one model
 * is spread over several folders. It also has no `.no_exist`. Once the library names folders after the repository's
 * commit and writes `.no_exist`, this class can be deleted.
 */
export class HubCache {
  readonly #folder: string;
  readonly #lockFile: string;

  constructor({ cacheDir, name }: { cacheDir: string; name: string }) {
    const repository = repositoryFolder(name);
    this.#folder = join(cacheDir, repository);
    this.#lockFile = join(cacheDir, '.locks', repository, 'lora-swarm.lock');
  }

  /** Returns the commit that a branch or tag had at the last look-up; null if it was never looked up. */
  async commit(revision: string): Promise<string | null> {
    const text = await readFile(join(this.#folder, 'refs', revision), 'utf8').catch(() => '');
    return isCommit(text.trim()) ? text.trim() : null;
  }

  async recordCommit(revision: string, commit: string): Promise<void> {
    if (revision !== commit) await replace(join(this.#folder, 'refs', revision), commit);
  }

  snapshot(commit: string): string {
    return join(this.#folder, 'snapshots', commit);
  }

  has(commit: string, file: string): Promise<boolean> {
    return exists(join(this.snapshot(commit), file));
  }

  /** Returns whether a commit is known to lack the file. */
  isMissing(commit: string, file: string): Promise<boolean> {
    return exists(join(this.#folder, '.no_exist', commit, file));
  }

  async recordMissing(commit: string, file: string): Promise<void> {
    if (!(await this.isMissing(commit, file)))
      await replace(join(this.#folder, '.no_exist', commit, file), '');
  }

  blob(etag: string): string {
    return join(this.#folder, 'blobs', etag);
  }

  async prepare(): Promise<void> {
    await mkdir(join(this.#folder, 'blobs'), { recursive: true });
  }

  hasBlob({ etag, size }: { etag: string; size: number }): Promise<boolean> {
    return stat(this.blob(etag)).then(
      (found) => found.size === size,
      () => false,
    );
  }

  /** Links a blob under its file name into the snapshot of a commit. */
  async place(commit: string, file: string, etag: string): Promise<void> {
    const target = join(this.snapshot(commit), file);
    await mkdir(dirname(target), { recursive: true });
    await rm(target, { force: true });
    const blob = this.blob(etag);
    // Copies the file if this process may not make symbolic links, as is usual on Windows.
    await symlink(relative(dirname(target), blob), target).catch(() => copyFile(blob, target));
  }

  /**
   * Runs a function while holding the lock that keeps other swarm processes from fetching this model.
   * @throws SwarmError HUB_BUSY if another process holds the lock
   */
  async locked<T>(run: () => Promise<T>): Promise<T> {
    await mkdir(dirname(this.#lockFile), { recursive: true });
    await this.#lock();
    try {
      return await run();
    } finally {
      await rm(this.#lockFile, { force: true });
    }
  }

  async #lock(): Promise<void> {
    for (let attempt = 0; attempt < 2; attempt++) {
      try {
        const handle = await open(this.#lockFile, 'wx');
        await handle.writeFile(JSON.stringify({ pid: process.pid, host: hostname() }));
        await handle.close();
        return;
      } catch (error) {
        if (!isSystemError(error, 'EEXIST')) throw error;
      }
      const { pid, host } = await this.#holder();
      if (host !== hostname() || isAlive(pid)) break;
      // Remove the lock file, because its holder has ended without removing it.
      await rm(this.#lockFile, { force: true });
    }
    throw hubError(
      'HUB_BUSY',
      `another process is fetching this model into ${this.#folder}`,
      { lock: this.#lockFile },
      { next: `wait until it has finished; if no such process exists, remove ${this.#lockFile}` },
    );
  }

  async #holder(): Promise<{ pid: number; host: string }> {
    try {
      return JSON.parse(await readFile(this.#lockFile, 'utf8')) as { pid: number; host: string };
    } catch {
      // The lock file was created a moment ago and is still empty, or was just removed. This process is returned as the
      // holder, so that the caller treats the lock as held.
      return { pid: process.pid, host: hostname() };
    }
  }
}

async function replace(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeDurably(path, text);
}

/** Returns whether a path exists. Follows links, so a link to a missing blob counts as missing. */
function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
