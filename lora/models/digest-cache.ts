import { createHash } from 'node:crypto';
import type { BigIntStats } from 'node:fs';
import { type FileHandle, mkdir, readdir, realpath, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { writeDurably } from '../../common/durable.ts';
import { sha256 } from '../../protocol/cbor.ts';
import { readJsonObject } from './json.ts';

/** Smaller files are read again each time, in bytes: a record would save nothing. */
export const RECORDED_FROM_BYTES = 8 * 2 ** 20;
/**
 * A file that changed this shortly before its record was written may have changed again within the resolution of its
 * times, in milliseconds; FAT's is two seconds.
 */
export const SETTLED_MS = 2_000;
const MAX_RECORD_BYTES = 16 * 2 ** 10;

/** Times are those of the file system, in nanoseconds, as text. */
interface FileRecord {
  readonly path: string;
  readonly device: string;
  readonly inode: string;
  readonly size: string;
  readonly modified: string;
  readonly changed: string;
  readonly digest: string;
}

/** Folder of the records in a cache folder. */
export function digestRecords(cacheDir: string): string {
  return join(cacheDir, 'digests');
}

/** Deletes the records of files that are gone, and what a killed process left of one that it was writing. */
export async function forgetDigests(cacheDir: string): Promise<void> {
  const records = digestRecords(cacheDir);
  for (const name of await readdir(records).catch(() => [])) {
    const record = join(records, name);
    const { path } = await readJsonObject(record, MAX_RECORD_BYTES).catch(() => ({ path: null }));
    const there = typeof path === 'string' && (await stat(path).catch(() => null)) !== null;
    if (!there || !name.endsWith('.json')) await rm(record, { force: true });
  }
}

/**
 * SHA-256 of a file, in hex, and its size. With a folder for records, a large file that is the same by path, device,
 * inode, size and both its times is not read again. The time of change is the system's own: a tool that sets the time
 * of modification back does not hide that it wrote.
 */
export async function digestOf(
  path: string,
  handle: FileHandle,
  { records, signal }: { records: string | null; signal?: AbortSignal },
): Promise<{ digest: string; size: number }> {
  const before = await handle.stat({ bigint: true });
  const record =
    records !== null && before.size >= RECORDED_FROM_BYTES ? await recordFile(records, path) : null;
  const known = record === null ? null : await read(record, before);
  if (known !== null) {
    await handle.close();
    return { digest: known, size: Number(before.size) };
  }
  const hash = createHash('sha256');
  let size = 0;
  // The stream closes the handle when it ends, fails or is aborted.
  for await (const chunk of handle.createReadStream({ highWaterMark: 2 ** 20, signal })) {
    hash.update(chunk);
    size += chunk.length;
  }
  const digest = hash.digest('hex');
  if (record !== null) await write(record, path, before, digest);
  return { digest, size };
}

async function recordFile(records: string, path: string): Promise<string> {
  return join(records, `${sha256(new TextEncoder().encode(await realpath(path)))}.json`);
}

function describe(path: string, stats: BigIntStats): Omit<FileRecord, 'digest'> {
  return {
    path,
    device: String(stats.dev),
    inode: String(stats.ino),
    size: String(stats.size),
    modified: String(stats.mtimeNs),
    changed: String(stats.ctimeNs),
  };
}

/** The digest of a record that is still of this file; null where there is none that can be trusted. */
async function read(record: string, stats: BigIntStats): Promise<string | null> {
  try {
    const { path: _, digest, ...found } = await readJsonObject(record, MAX_RECORD_BYTES);
    const { path: __, ...expected } = describe('', stats);
    const same = Object.entries(expected).every(([key, value]) => found[key] === value);
    const { mtimeMs } = await stat(record);
    const settled =
      mtimeMs - Number(stats.ctimeMs) >= SETTLED_MS && mtimeMs - Number(stats.mtimeMs) >= SETTLED_MS;
    return same && settled && typeof digest === 'string' && /^[0-9a-f]{64}$/.test(digest) ? digest : null;
  } catch {
    return null;
  }
}

/** Does without where it cannot be written: it only saves time. A file that changed while it was read gets none. */
async function write(record: string, path: string, before: BigIntStats, digest: string): Promise<void> {
  try {
    const file = await realpath(path);
    const described = describe(file, before);
    const now = describe(file, await stat(file, { bigint: true }));
    if (JSON.stringify(described) !== JSON.stringify(now)) return;
    await mkdir(join(record, '..'), { recursive: true });
    await writeDurably(record, JSON.stringify({ ...described, digest } satisfies FileRecord));
  } catch {}
}
