import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { commonError } from '../../../common/common-errors.ts';
import { SwarmError } from '../../../common/errors.ts';
import { hubError } from './errors.ts';
import { diskFull, unreachable } from './failures.ts';
import type { HubAccess, HubFile } from './listing.ts';
import type { HubReference } from './reference.ts';
import { FIRST_PAUSE_MS, type HubDeps, MAX_TRIES, request, sleep } from './requests.ts';

/** A transfer from which nothing has come for this long is begun again where it stopped, in milliseconds. */
export const IDLE_MS = 60_000;
/** Bytes of a partial file that are read at a time to go on with its hash. */
const READ_BYTES = 2 ** 20;

export interface TransferOptions extends HubAccess {
  readonly reference: HubReference;
  readonly file: HubFile;
  /** Where the bytes go until they are whole and right; what an earlier attempt left there is gone on with. */
  readonly partial: string;
  /** Bytes of the file that are there. */
  readonly onProgress: (bytes: number) => void;
}

/**
 * Fetches one file by its size and hash. A connection that breaks is taken up where it stopped, in this call or the next.
 *
 * @throws SwarmError HUB_DAMAGED what came is not what the hub's list says, twice; HUB_DISK_FULL; HUB_* as request
 */
export async function transfer(options: TransferOptions, deps: HubDeps): Promise<void> {
  const { partial, file, reference, endpoint } = options;
  // A partial file of an earlier attempt may be wrong: then once more from nothing.
  for (let attempt = 0; attempt < 2; attempt++) {
    const handle = await open(partial, 'a+').catch((cause: unknown) => {
      throw writeFault(cause, partial);
    });
    try {
      const found = await fill(handle, options, deps);
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
    `${file.path} of ${reference.name} arrives with another content than ${endpoint} lists`,
    { file: file.path, expected: file.etag },
    { next: 'try again later; a proxy between may change files' },
  );
}

/** Appends until the file has its size. @returns its hash */
async function fill(handle: FileHandle, options: TransferOptions, deps: HubDeps): Promise<string> {
  const { file, signal, endpoint, partial, onProgress } = options;
  let { hash, bytes } = await resumed(handle, file, signal);
  onProgress(bytes);
  for (let failures = 0; bytes < file.size; ) {
    const before = bytes;
    const response = await ask(bytes, options, deps);
    if (bytes > 0 && !continues(response, bytes)) {
      // The hub sends all of it again.
      await handle.truncate(0);
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
    await sleep(FIRST_PAUSE_MS * 2 ** failures, signal, deps.clock);
  }
  return hash.digest('hex');
}

/** Hash of what a partial file holds; a longer one than there should be is begun anew. */
async function resumed(
  handle: FileHandle,
  file: HubFile,
  signal: AbortSignal,
): Promise<{ hash: Hash; bytes: number }> {
  const hash = newHash(file);
  const { size } = await handle.stat();
  if (size > file.size) await handle.truncate(0);
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

/** Large files are named by their SHA-256, others by Git's SHA-1 of "blob SIZE\0" and the content. */
function newHash({ etag, size }: HubFile): Hash {
  return etag.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`);
}

function ask(from: number, options: TransferOptions, deps: HubDeps): Promise<Response> {
  const { reference, file, endpoint, accessToken, signal } = options;
  const { name, revision } = reference;
  const path = file.path.split('/').map(encodeURIComponent).join('/');
  const url = `${endpoint}/${name}/resolve/${revision}/${path}`;
  // A stored gzip would be undone on the way, and neither size nor hash would fit.
  const headers: Record<string, string> = { 'accept-encoding': 'identity' };
  if (from > 0) headers.range = `bytes=${from}-`;
  const asked = { reference, file: file.path, endpoint, token: accessToken !== null };
  return request({ ...asked, url, headers, accessToken, accept: [416], signal }, deps);
}

/** Whether the answer begins where it was asked to. */
function continues(response: Response, from: number): boolean {
  const start = /^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')?.[1];
  return response.status === 206 && Number(start) === from;
}

/** The body's chunks; ends with an error when none comes for too long. */
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
      const cancel = clock.after(IDLE_MS, () =>
        idle.reject(new Error(`nothing came for ${IDLE_MS / 1000} s`)),
      );
      const stop = (): void => idle.reject(signal.reason);
      signal.addEventListener('abort', stop, { once: true });
      try {
        const { done, value } = await Promise.race([reader.read(), idle.promise]);
        if (done) return;
        yield value;
      } finally {
        cancel();
        signal.removeEventListener('abort', stop);
      }
    }
  } finally {
    // The rest of a body that is not wanted any more, or does not come.
    reader.cancel().catch(() => {});
  }
}

async function write(handle: FileHandle, bytes: Uint8Array, path: string): Promise<void> {
  try {
    await handle.appendFile(bytes);
  } catch (cause) {
    const fault = writeFault(cause, path);
    if (fault instanceof SwarmError) throw fault;
    // An error of its own, which is not taken for one of the connection.
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw commonError('WRITE_FAILED', `${path} cannot be written: ${reason}`, { path, reason }, { cause });
  }
}

/** @returns HUB_DISK_FULL where that is it, else the system's own error */
export function writeFault(cause: unknown, path: string): unknown {
  const code = cause instanceof Error && 'code' in cause ? cause.code : null;
  return code === 'ENOSPC' || code === 'EDQUOT' ? diskFull(path, null, null, cause) : cause;
}
