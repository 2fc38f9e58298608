import { copyFile, mkdir, open, readFile, rm, stat, symlink } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { isAlive, writeDurably } from '../../../common/durable.ts';
import { hubError } from './errors.ts';
import { isCommit, repositoryFolder } from './reference.ts';

/**
 * A model's folder in the cache that huggingface_hub and its kin keep: `blobs/<etag>`, `snapshots/<commit>/<file>` as
 * links to them, `refs/<revision>` with a commit, and `.no_exist/<commit>/<file>` for files that a commit lacks
 * (huggingface.co/docs/huggingface_hub/guides/manage-cache).
 */
export class HubCache {
  readonly #folder: string;
  readonly #lockFile: string;

  constructor({ cacheDir, name }: { cacheDir: string; name: string }) {
    const repository = repositoryFolder(name);
    this.#folder = join(cacheDir, repository);
    this.#lockFile = join(cacheDir, '.locks', repository, 'lora-swarm.lock');
  }

  /** The commit that a branch or tag stood for when it was last asked for. */
  async commit(revision: string): Promise<string | null> {
    const text = await readFile(join(this.#folder, 'refs', revision), 'utf8').catch(() => '');
    return isCommit(text.trim()) ? text.trim() : null;
  }

  async remember(revision: string, commit: string): Promise<void> {
    if (revision !== commit) await replace(join(this.#folder, 'refs', revision), commit);
  }

  snapshot(commit: string): string {
    return join(this.#folder, 'snapshots', commit);
  }

  has(commit: string, file: string): Promise<boolean> {
    return exists(join(this.snapshot(commit), file));
  }

  /** Whether it is known that a commit has no such file. */
  lacks(commit: string, file: string): Promise<boolean> {
    return exists(join(this.#folder, '.no_exist', commit, file));
  }

  async rememberMissing(commit: string, file: string): Promise<void> {
    if (!(await this.lacks(commit, file))) await replace(join(this.#folder, '.no_exist', commit, file), '');
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

  /** Puts a blob under its file's name into the snapshot of a commit. */
  async place(commit: string, file: string, etag: string): Promise<void> {
    const target = join(this.snapshot(commit), file);
    await mkdir(dirname(target), { recursive: true });
    await rm(target, { force: true });
    const blob = this.blob(etag);
    // Windows allows links only to some.
    await symlink(relative(dirname(target), blob), target).catch(() => copyFile(blob, target));
  }

  /**
   * Runs while no other swarm process fetches this model.
   * @throws SwarmError HUB_BUSY
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
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
      const { pid, host } = await this.#holder();
      if (host !== hostname() || isAlive(pid)) break;
      // It was killed.
      await rm(this.#lockFile, { force: true });
    }
    throw hubError(
      'HUB_BUSY',
      `another process is fetching this model into ${this.#folder}`,
      { lock: this.#lockFile },
      { next: `wait until it is done; if there is none, remove ${this.#lockFile}` },
    );
  }

  async #holder(): Promise<{ pid: number; host: string }> {
    try {
      return JSON.parse(await readFile(this.#lockFile, 'utf8')) as { pid: number; host: string };
    } catch {
      // Just made, or just removed.
      return { pid: process.pid, host: hostname() };
    }
  }
}

async function replace(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeDurably(path, text);
}

/** Also behind a link. */
function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
