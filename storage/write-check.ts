import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { commonError } from '../common/common-errors.ts';
import { writeDurably } from '../common/files/durable.ts';
import { freeBytesOf } from '../common/files/file-system.ts';
import { formatBytes } from '../common/text.ts';

/** Size of the file that a check writes. A file of a few bytes could still fit on a full disk. */
const WRITTEN_BYTES = 64 * 1024;
/** Free space below which a disk counts as full. An adapter, an update and a write-ahead log need at least this space. */
export const FULL_BELOW_BYTES = 16 * 1024 * 1024;

interface WriteCheckOptions {
  readonly needed?: number;
  /** @default freeBytesOf */
  readonly freeBytes?: (folder: string) => Promise<number>;
}

/**
 * Checks that a home can be written, with a file that is written and deleted.
 * @param options `needed`: free space below which the disk counts as full. @default 16 MiB
 * @throws SwarmError STORE_FULL, WRITE_FAILED
 */
export async function checkWritable(
  home: string,
  { needed = FULL_BELOW_BYTES, freeBytes = freeBytesOf }: WriteCheckOptions = {},
): Promise<void> {
  const path = join(home, 'write-check');
  await writeDurably(path, new Uint8Array(WRITTEN_BYTES)).finally(() => rm(path, { force: true }));
  const free = await freeBytes(home);
  if (free >= needed) return;
  throw commonError(
    'STORE_FULL',
    `the disk of ${home} has only ${formatBytes(free)} free, and ${formatBytes(needed)} are needed`,
    { path: home, free, needed },
  );
}
