import { createHash } from 'node:crypto';
import type { BigIntStats } from 'node:fs';
import { type FileHandle, mkdir, readdir, realpath, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { writeDurably } from '../../../common/files/durable.ts';
import { sha256 } from '../../../protocol/cbor.ts';
import { readJsonObject } from '../json.ts';

/**
 * Minimum size in bytes of files whose digests are cached. Reading a smaller file again is as fast as reading its
 * record.
 */
export const RECORDED_FROM_BYTES = 8 * 2 ** 20;
/**
 * Minimum time in milliseconds between the last change of a file and the moment when its digest is recorded.
 * A digest that was recorded sooner is not trusted. The file could change again so soon that the file system
 * gives the file the same times as before, and this second change would go unnoticed. FAT stores times in
 * steps of two seconds.
 */
export const SETTLED_MS = 2_000;
const MAX_RECORD_BYTES = 16 * 2 ** 10;

/** A cached digest. Times are the file system's, in nanoseconds, as text. */
interface FileRecord {
  readonly path: string;
  readonly device: string;
  readonly inode: string;
  readonly size: string;
  readonly modified: string;
  readonly changed: string;
  readonly digest: string;
  /** SHA-256 of the other fields. A record with a flipped bit is not used. */
  readonly check: string;
}

/** Returns the folder of the records inside a cache folder. */
export function digestRecords(cacheDir: string): string {
  return join(cacheDir, 'digests');
}

/**
 * Deletes the recorded digests of files that no longer exist, and incomplete records that killed processes
 * left.
 */
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
 * Returns the SHA-256 of a file, in hex, and its size in bytes; closes the handle. If `records` is a folder, a large
 * file is not read again while its path, device, inode, size, mtime and ctime are unchanged. Programs cannot set the
 * ctime, so a change is noticed even if a program resets the mtime afterwards.
 *
 * @param records folder of the cached digests; null to always read the file
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

/** Returns the SHA-256 of the fields of a record. */
function checkOf(fields: object): string {
  return sha256(new TextEncoder().encode(JSON.stringify(fields)));
}

function describe(path: string, stats: BigIntStats): Omit<FileRecord, 'digest' | 'check'> {
  return {
    path,
    device: String(stats.dev),
    inode: String(stats.ino),
    size: String(stats.size),
    modified: String(stats.mtimeNs),
    changed: String(stats.ctimeNs),
  };
}

/** Returns the digest in a record if the record still matches the file and can be trusted; else null. */
async function read(record: string, stats: BigIntStats): Promise<string | null> {
  try {
    const { check, ...fields } = await readJsonObject(record, MAX_RECORD_BYTES);
    if (check !== checkOf(fields)) return null;
    const { path: _, digest, ...found } = fields;
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

/**
 * Writes a record, unless the file changed while it was read. Failures are ignored, because a record only saves time.
 */
async function write(record: string, path: string, before: BigIntStats, digest: string): Promise<void> {
  try {
    const file = await realpath(path);
    const described = describe(file, before);
    const now = describe(file, await stat(file, { bigint: true }));
    if (JSON.stringify(described) !== JSON.stringify(now)) return;
    await mkdir(join(record, '..'), { recursive: true });
    const fields = { ...described, digest };
    const whole: FileRecord = { ...fields, check: checkOf(fields) };
    await writeDurably(record, JSON.stringify(whole));
  } catch {}
}
