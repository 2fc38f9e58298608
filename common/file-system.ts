/** Calls that some file systems do not have. */
import { constants } from 'node:fs';
import { chmod, copyFile, link, open, statfs } from 'node:fs/promises';

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
 * Gives a file a second name, or copies it where that is not possible: on another file system, or on one without hard
 * links. Each system has its own error for that, so every error of the link leads to the copy. Never copies over an
 * existing name: that would write through a link into another file.
 * @throws the error of the copy: EEXIST if `to` exists
 */
export async function linkOrCopy(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch {
    await copyFile(from, to, constants.COPYFILE_EXCL);
    // For writing: Windows syncs no handle that is open for reading only.
    const file = await open(to, 'r+');
    await file.sync().finally(() => file.close());
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
