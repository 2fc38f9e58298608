/** File operations that also work on file systems that lack some system calls. */
import { constants, createReadStream, createWriteStream } from 'node:fs';
import { chmod, copyFile, link, open, stat, statfs } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { isSystemError } from '../errors.ts';

/** Error codes of a system call that the file system does not support. */
const NO_SUCH_CALL: readonly unknown[] = ['ENOSYS', 'ENOTSUP', 'EOPNOTSUPP'];

/**
 * Returns the number of free bytes on a folder's disk that this user may use.
 * @returns Infinity if the file system does not report its free space; a full disk then shows only when a write fails
 */
export async function freeBytesOf(folder: string): Promise<number> {
  try {
    const { bavail, bsize } = await statfs(folder);
    return bavail * bsize;
  } catch (error) {
    if (NO_SUCH_CALL.includes((error as NodeJS.ErrnoException).code)) return Number.POSITIVE_INFINITY;
    throw error;
  }
}

/**
 * Creates a hard link, or copies the file if a link is not possible, for example between two file systems or on a file
 * system without hard links. Systems report an impossible link with different errors, so this function copies the file
 * after any error of the link. The copy never overwrites an existing file, because that file may be a link to a blob,
 * and the copy would change the blob.
 * @throws the error of the copy: EEXIST if `to` exists
 */
export async function linkOrCopy(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch {
    await copyFile(from, to, constants.COPYFILE_EXCL);
    // Open the file for writing, because Windows cannot sync a read-only handle.
    const file = await open(to, 'r+');
    await file.sync().finally(() => file.close());
  }
}

/**
 * Makes a file readable and writable by its owner only. A file that was copied or restored from a backup is often
 * readable by all users. Does nothing on a file system without permissions per file. On Windows the folder's
 * permissions apply.
 */
export async function restrictToOwner(path: string): Promise<void> {
  await chmod(path, 0o600).catch((error: NodeJS.ErrnoException) => {
    if (!NO_SUCH_CALL.includes(error.code)) throw error;
  });
}

/** Gives a file the permissions of another file. Does nothing on a file system without permissions per file. */
export async function copyRights(from: string, to: string): Promise<void> {
  const { mode } = await stat(from);
  await chmod(to, mode & 0o777).catch((error: NodeJS.ErrnoException) => {
    if (!NO_SUCH_CALL.includes(error.code)) throw error;
  });
}

/**
 * Copies the bytes of a file, without its permissions, so that the copy has the usual permissions of new files. Files in a
 * home or a registry are private, but the copies that a user asks for are not.
 */
export async function copyBytes(from: string, to: string): Promise<void> {
  await pipeline(createReadStream(from), createWriteStream(to));
}

/** Returns null for the error that a file or folder does not exist. @throws every other error */
export function nullIfMissing(error: unknown): null {
  if (isSystemError(error, 'ENOENT')) return null;
  throw error;
}
