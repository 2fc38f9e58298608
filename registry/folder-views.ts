import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { renameDurably, writeError } from '../common/files/durable.ts';
import { linkOrCopy } from '../common/files/file-system.ts';
import { makeFolder } from '../common/files/folders.ts';
import type { FileBlobs } from '../storage/blobs.ts';
import { registryError } from './errors.ts';
import type { AdapterVersion } from './version.ts';

/**
 * Age in milliseconds from which an unfinished folder is deleted. The process that made such an old folder was probably
 * killed.
 */
const ABANDONED_MS = 24 * 60 * 60 * 1000;
/** Beginning of the names of folders in which uploads and downloads keep their files. */
export const TRANSFER = 'transfer-';
const NUMBERED = /^v([1-9]\d{0,8})$/;

/**
 * PEFT folders of versions, `<home>/versions/<name>/v<number>`. Their files are hard links to the blobs where the file
 * system supports links. A folder is made when it is first asked for.
 */
export class FolderViews {
  readonly #home: string;
  readonly #root: string;
  readonly #blobs: FileBlobs;

  constructor({ home }: { home: string }, { blobs }: { blobs: FileBlobs }) {
    this.#home = home;
    this.#root = join(home, 'versions');
    this.#blobs = blobs;
  }

  /**
   * Returns the folder of a version, and checks its files against their digests.
   * @throws SwarmError VERSION_DAMAGED, STORE_FULL, WRITE_FAILED
   */
  async open(version: AdapterVersion): Promise<string> {
    const { name, number, manifest } = version;
    const parent = join(this.#root, name);
    const target = join(parent, `v${number}`);
    if (await isWhole(target, manifest.files)) return target;
    for (const { path, digest } of manifest.files) {
      if ((await digestOfFile(this.#blobs.path(digest))) === digest) continue;
      const message = `${path} of ${version.label} is missing or damaged`;
      throw registryError('VERSION_DAMAGED', message, { version: version.label, file: path, digest });
    }
    const work = join(parent, `.${number}-${randomBytes(6).toString('hex')}`);
    try {
      await makeFolder(parent, { mode: 0o700 });
      await mkdir(work, { mode: 0o700 });
      for (const { path, digest } of manifest.files)
        await linkOrCopy(this.#blobs.path(digest), join(work, path));
      // A damaged folder is replaced.
      if ((await stat(target).catch(() => null)) !== null && !(await isWhole(target, manifest.files)))
        await rm(target, { recursive: true, force: true });
      await renameDurably(work, target);
    } catch (cause) {
      await rm(work, { recursive: true, force: true });
      // Ignore the error if another process has made the folder first.
      if (!(await isWhole(target, manifest.files))) throw writeError(cause, target);
    }
    return target;
  }

  /** Deletes the folders of the versions for which `keep` returns false, and unfinished folders of killed processes. */
  async sweep(keep: (name: string, number: number) => boolean, now: number): Promise<void> {
    const age = async (path: string): Promise<number> =>
      now - ((await stat(path).catch(() => null))?.mtimeMs ?? now);
    for (const name of await readdir(this.#home)) {
      const path = join(this.#home, name);
      if (name.startsWith(TRANSFER) && (await age(path)) > ABANDONED_MS)
        await rm(path, { recursive: true, force: true });
    }
    for (const name of await readdir(this.#root).catch(() => [])) {
      for (const entry of await readdir(join(this.#root, name)).catch(() => [])) {
        const path = join(this.#root, name, entry);
        const number = Number(NUMBERED.exec(entry)?.[1] ?? 0);
        if (number > 0 ? !keep(name, number) : (await age(path)) > ABANDONED_MS)
          await rm(path, { recursive: true, force: true });
      }
    }
  }
}

/** Returns whether a folder has all files of a version, each with its digest. */
async function isWhole(dir: string, files: AdapterVersion['manifest']['files']): Promise<boolean> {
  for (const { path, digest } of files) if ((await digestOfFile(join(dir, path))) !== digest) return false;
  return true;
}

/** Returns the SHA-256 of a file in hex; null if the file cannot be read. */
export async function digestOfFile(path: string): Promise<string | null> {
  const hash = createHash('sha256');
  try {
    await pipeline(createReadStream(path, { highWaterMark: 1024 * 1024 }), hash);
  } catch {
    return null;
  }
  return hash.digest('hex');
}

/** Runs `work` with an empty folder in the folder of a registry, and deletes the folder afterwards. */
export async function inTemporaryFolder<T>(home: string, work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(home, TRANSFER));
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
