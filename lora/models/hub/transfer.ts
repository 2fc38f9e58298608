import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, open, rm, truncate } from 'node:fs/promises';
import { raceSignal } from 'race-signal';
import { commonError } from '../../../common/common-errors.ts';
import { fromSystem, isSystemError, SwarmError } from '../../../common/errors.ts';
import { sleep } from '../../../common/time/deadline.ts';
import { hubError } from './errors.ts';
import { diskFull, unreachable } from './failures.ts';
import type { HubAccess, HubFile } from './listing.ts';
import type { HubReference } from './reference.ts';
import { FIRST_PAUSE_MS, type HubDeps, MAX_TRIES, request } from './requests.ts';

/** Time in milliseconds without data after which a transfer is resumed with a new request. */
export const IDLE_MS = 60_000;
/** Bytes per read when hashing a partial file. */
const READ_BYTES = 2 ** 20;

export interface TransferOptions extends HubAccess {
  readonly reference: HubReference;
  readonly file: HubFile;
  /** Path of the partial file. If an earlier attempt left one, the transfer continues it. */
  readonly partial: string;
  /** Called with the number of bytes of the file that are on disk. */
  readonly onProgress: (bytes: number) => void;
}

/**
 * Fetches one file and checks its size and hash. After a broken connection, the transfer resumes where it stopped: in
 * this call, or in the next call if this one fails.
 *
 * We do not use the downloads of @huggingface/hub 2.17.5, because they restart a broken transfer from the first byte,
 * never retry, report no progress, and check neither size nor hash. Once the library resumes transfers, checks files and
 * reports progress, this file can be deleted.
 *
 * @throws SwarmError HUB_DAMAGED if two transfers in a row did not match the hub's listing; HUB_DISK_FULL; the errors
 *   of request
 */
export async function transfer(options: TransferOptions, deps: HubDeps): Promise<void> {
  const { partial, file, reference, endpoint } = options;
  // The partial file of an earlier attempt may be damaged. If it is, the second attempt starts from the first byte.
  for (let attempt = 0; attempt < 2; attempt++) {
    const handle = await open(partial, 'a+').catch((cause: unknown) => {
      throw asDiskFull(cause, partial);
    });
    try {
      const found = await download(handle, options, deps);
      if (found === file.etag) {
        await handle.sync();
        return;
      }
    } finally {
      await handle.close();
    }
    await rm(partial, { force: true });
    options.onProgress(0);
  }
  throw hubError(
    'HUB_DAMAGED',
    `the content of ${file.path} of ${reference.name} does not match the hash that ${endpoint} lists`,
    { file: file.path, expected: file.etag },
  );
}

/** Appends to the partial file until it has the listed size. @returns the hash of the whole file */
async function download(handle: FileHandle, options: TransferOptions, deps: HubDeps): Promise<string> {
  const { file, signal, endpoint, partial, onProgress } = options;
  let { hash, bytes } = await hashPartial(handle, options);
  onProgress(bytes);
  for (let failures = 0; bytes < file.size; ) {
    const before = bytes;
    const response = await requestFrom(bytes, options, deps);
    if (bytes > 0 && !startsAt(response, bytes)) {
      // The hub ignored the range and sends the whole file, so the partial file is emptied. This is done by path,
      // because Windows cannot truncate through a handle that is open for appending.
      await truncate(partial);
      ({ hash, bytes } = { hash: newHash(file), bytes: 0 });
    }
    let cause: unknown = new Error('the connection was closed');
    try {
      for await (const chunk of chunks(response, signal, deps)) {
        const wanted = chunk.subarray(0, file.size - bytes);
        await write(handle, wanted, partial);
        hash.update(wanted);
        bytes += wanted.length;
        onProgress(bytes);
        if (chunk.length > wanted.length) break;
      }
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof SwarmError) throw error;
      cause = error;
    }
    if (bytes >= file.size) break;
    failures = bytes > before ? 0 : failures + 1;
    if (failures >= MAX_TRIES) throw unreachable(endpoint, cause);
    await sleep(deps.clock, FIRST_PAUSE_MS * 2 ** failures, signal);
  }
  return hash.digest('hex');
}

/** Hashes a partial file. Empties it first if it is longer than the listed size. */
async function hashPartial(
  handle: FileHandle,
  { file, partial, signal }: TransferOptions,
): Promise<{ hash: Hash; bytes: number }> {
  const hash = newHash(file);
  const { size } = await handle.stat();
  if (size > file.size) await truncate(partial);
  if (size > file.size || size === 0) return { hash, bytes: 0 };
  const buffer = Buffer.alloc(READ_BYTES);
  let bytes = 0;
  while (bytes < size) {
    signal.throwIfAborted();
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, bytes);
    if (bytesRead === 0) break;
    hash.update(buffer.subarray(0, bytesRead));
    bytes += bytesRead;
  }
  return { hash, bytes };
}

/** The etag of a large file is its SHA-256. For other files it is Git's SHA-1 of "blob SIZE\0" and the content. */
function newHash({ etag, size }: HubFile): Hash {
  return etag.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`);
}

function requestFrom(from: number, options: TransferOptions, deps: HubDeps): Promise<Response> {
  const { reference, file, endpoint, accessToken, signal } = options;
  const { name, revision } = reference;
  const path = file.path.split('/').map(encodeURIComponent).join('/');
  const url = `${endpoint}/${name}/resolve/${revision}/${path}`;
  // Ask for the body as it is. fetch would decompress a gzip-encoded body, and neither size nor hash would
  // match.
  const headers: Record<string, string> = { 'accept-encoding': 'identity' };
  if (from > 0) headers.range = `bytes=${from}-`;
  const subject = { reference, file: file.path, endpoint, token: accessToken !== null };
  return request({ ...subject, url, headers, accessToken, accept: [416], signal }, deps);
}

/** Returns whether a response is the requested range, which starts at byte `from`. */
function startsAt(response: Response, from: number): boolean {
  const start = /^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')?.[1];
  return response.status === 206 && Number(start) === from;
}

/** Yields the chunks of a response body. Throws if no chunk arrives for IDLE_MS milliseconds. */
async function* chunks(
  response: Response,
  signal: AbortSignal,
  { clock }: HubDeps,
): AsyncGenerator<Uint8Array> {
  if (response.status === 416 || response.body === null) {
    await response.body?.cancel();
    return;
  }
  const reader = response.body.getReader();
  try {
    for (;;) {
      signal.throwIfAborted();
      const idle = Promise.withResolvers<never>();
      const cancel = clock.after(IDLE_MS, () => idle.reject(new Error(`no data for ${IDLE_MS / 1000} s`)));
      try {
        const { done, value } = await Promise.race([raceSignal(reader.read(), signal), idle.promise]);
        if (done) return;
        yield value;
      } finally {
        cancel();
      }
    }
  } finally {
    // Cancel the rest of a body that is no longer wanted or does not arrive. Ignore an error, because nothing more is read.
    reader.cancel().catch(() => {});
  }
}

async function write(handle: FileHandle, bytes: Uint8Array, path: string): Promise<void> {
  try {
    await handle.appendFile(bytes);
  } catch (cause) {
    const full = asDiskFull(cause, path);
    if (full instanceof SwarmError) throw full;
    // Throws a SwarmError, because the caller would take any other error for a broken connection and try
    // again.
    const reason = cause instanceof Error ? cause.message : String(cause);
    const { next } = fromSystem(cause);
    throw commonError(
      'WRITE_FAILED',
      `${path} cannot be written: ${reason}`,
      { path, reason },
      { cause, next },
    );
  }
}

/** Maps a system error for a full disk to HUB_DISK_FULL; returns any other error unchanged. */
export function asDiskFull(cause: unknown, path: string): unknown {
  return isSystemError(cause, 'ENOSPC', 'EDQUOT')
    ? diskFull(path, { needed: null, free: null, cause })
    : cause;
}
