/** Calls that some file systems do not have. */
import { chmod, statfs } from 'node:fs/promises';

/** What file systems answer to a call that they do not have. */
const NO_SUCH_CALL: readonly unknown[] = ['ENOSYS', 'ENOTSUP', 'EOPNOTSUPP'];

/**
 * Returns the bytes of a folder's disk that this user may still write.
 * @returns Infinity where the file system does not tell. Then a write fails when the disk is full
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
 * Makes a file readable and writable by its owner only: copies and backups often restore it as readable by all users.
 * Does nothing on a file system without rights for each file. On Windows the rights of the folder apply.
 */
export async function restrictToOwner(path: string): Promise<void> {
  await chmod(path, 0o600).catch((error: NodeJS.ErrnoException) => {
    if (!NO_SUCH_CALL.includes(error.code)) throw error;
  });
}
