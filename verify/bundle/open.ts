import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { isSwarmError } from '../../common/errors.ts';
import { decodeCbor, sha256 } from '../../protocol/cbor.ts';
import { verifyError } from '../errors.ts';
import type { BlobWanted, CheckpointRecord, DamagedRecord, JobRecord } from '../record.ts';
import {
  carHeader,
  DAG_CBOR,
  decodeSectionHead,
  malformed,
  SECTION_HEAD_BYTES,
  type Section,
} from './car.ts';
import { type MissingBlob, RECORD_BYTES, ROOT_BYTES, recordSchema, rootSchema } from './format.ts';

/** Maximum number of sections of a bundle. Each takes about 200 bytes of memory. */
const SECTIONS = 2_000_000;
/** Number of bytes of a block that are hashed at a time. */
const READ_BYTES = 1024 * 1024;
const HEADER_BYTES = carHeader('00'.repeat(32)).byteLength;

/** Place of a block in the file. */
interface Place extends Pick<Section, 'kind' | 'size'> {
  readonly offset: number;
}

/** The record of a job in an open bundle. */
export interface OpenBundle extends JobRecord {
  /** Blobs that the bundle lacks because the coordinator could not repair them. */
  readonly missing: readonly MissingBlob[];
  /** Yields all checkpoints whose blocks are whole, oldest first. */
  wholeCheckpoints(signal: AbortSignal): AsyncGenerator<CheckpointRecord, void, undefined>;
  /** Reads the blocks that were not read before. Yields the digest of each block whose bytes do not have this digest. */
  damagedBlocks(signal: AbortSignal): AsyncGenerator<string, void, undefined>;
  close(): Promise<void>;
}

/**
 * Opens a bundle. Its content is untrusted: every length is checked against the size of the file before memory is
 * allocated, every block against its digest, and no name in the file is used as a path.
 * @throws SwarmError BUNDLE_MALFORMED; a system error if the file cannot be read
 */
export async function openBundle(path: string): Promise<OpenBundle> {
  const file = await open(path, 'r');
  try {
    const { places, root } = await scan(file);
    const bytes = await readBlock(file, root, ROOT_BYTES);
    if (places.get(sha256(bytes)) !== root) throw malformed('the bytes of the root do not have its digest');
    const decoded = parse(() => decodeCbor(bytes, rootSchema, ROOT_BYTES));
    const { manifest, settings, checkpoints: digests, missing = [] } = decoded;
    return new Bundle(file, { places, manifest, settings, digests, missing });
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Reads the heads of all sections. @returns the places of the blocks by digest, and the place of the root */
async function scan(file: FileHandle): Promise<{ places: Map<string, Place>; root: Place }> {
  const { size: fileBytes } = await file.stat();
  const header = await readAt(file, 0, Math.min(HEADER_BYTES, fileBytes));
  const places = new Map<string, Place>();
  let root: Place | null = null;
  for (let at = HEADER_BYTES; at < fileBytes; ) {
    const { kind, digest, headBytes, size } = decodeSectionHead(
      await readAt(file, at, Math.min(SECTION_HEAD_BYTES, fileBytes - at)),
    );
    const place = { kind, offset: at + headBytes, size };
    if (place.offset + size > fileBytes) throw malformed('the file ends inside a block');
    if (places.has(digest)) throw malformed('a block occurs twice');
    if (places.size === SECTIONS) throw malformed(`it has more than ${SECTIONS} blocks`);
    if (root === null) {
      root = place;
      if (Buffer.compare(header, carHeader(digest)) !== 0)
        throw malformed('its header does not name its root');
    }
    places.set(digest, place);
    at = place.offset + size;
  }
  if (root === null) throw malformed('it has no blocks');
  return { places, root };
}

class Bundle implements OpenBundle {
  readonly manifest: Uint8Array;
  readonly settings: readonly Uint8Array[];
  readonly missing: readonly MissingBlob[];
  readonly #file: FileHandle;
  readonly #places: ReadonlyMap<string, Place>;
  readonly #digests: readonly string[];
  /**
   * Digests of the blocks that `blob` and `checkpoints` have read. `damagedBlocks` skips them, because the caller verifies
   * what `blob` returns, and `checkpoints` names damaged blocks itself.
   */
  readonly #read = new Set<string>();

  constructor(
    file: FileHandle,
    content: {
      places: ReadonlyMap<string, Place>;
      manifest: Uint8Array;
      settings: readonly Uint8Array[];
      digests: readonly string[];
      missing: readonly MissingBlob[];
    },
  ) {
    this.#file = file;
    this.#places = content.places;
    this.#digests = content.digests;
    this.manifest = content.manifest;
    this.settings = content.settings;
    this.missing = content.missing;
  }

  async *checkpoints(): AsyncGenerator<CheckpointRecord | DamagedRecord, void, undefined> {
    for (const [i, digest] of this.#digests.entries()) {
      this.#read.add(digest);
      const record = await this.#record(digest);
      yield record ?? { damaged: { digest, position: i + 1, count: this.#digests.length } };
    }
  }

  async *wholeCheckpoints(signal: AbortSignal): AsyncGenerator<CheckpointRecord, void, undefined> {
    for (const digest of this.#digests) {
      signal.throwIfAborted();
      try {
        const record = await this.#record(digest);
        if (record !== null) yield record;
      } catch (error) {
        // Skip an unreadable block, because `checkpoints` reports it.
        if (!isSwarmError(error)) throw error;
      }
    }
  }

  async blob({ digest, maxBytes }: BlobWanted): Promise<Uint8Array | null> {
    const place = this.#places.get(digest);
    if (place === undefined) return null;
    if (place.size > maxBytes) {
      const text = `blob ${digest} has ${place.size} bytes; the limit is ${maxBytes}`;
      throw verifyError(
        'BUNDLE_TOO_LARGE',
        text,
        { digest, bytes: place.size, maxBytes },
        { next: 'get the bundle again from its source; no valid bundle has such a file' },
      );
    }
    this.#read.add(digest);
    return readAt(this.#file, place.offset, place.size);
  }

  async *damagedBlocks(signal: AbortSignal): AsyncGenerator<string, void, undefined> {
    for (const [digest, { offset, size }] of this.#places) {
      if (this.#read.has(digest)) continue;
      const hash = createHash('sha256');
      for (let at = 0; at < size; at += READ_BYTES) {
        signal.throwIfAborted();
        hash.update(await readAt(this.#file, offset + at, Math.min(READ_BYTES, size - at)));
      }
      if (hash.digest('hex') !== digest) yield digest;
    }
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  /** Reads the block of a checkpoint. @returns null if its bytes do not have its digest */
  async #record(digest: string): Promise<CheckpointRecord | null> {
    const place = this.#places.get(digest);
    if (place === undefined) throw malformed('the block of a checkpoint is missing');
    const bytes = await readBlock(this.#file, place, RECORD_BYTES);
    if (sha256(bytes) !== digest) return null;
    return parse(() => decodeCbor(bytes, recordSchema, RECORD_BYTES));
  }
}

async function readBlock(
  file: FileHandle,
  { kind, offset, size }: Place,
  maxBytes: number,
): Promise<Uint8Array> {
  if (kind !== DAG_CBOR) throw malformed('the root or a checkpoint is not DAG-CBOR');
  if (size > maxBytes) throw malformed(`a block of ${size} bytes is above the limit of ${maxBytes}`);
  return readAt(file, offset, size);
}

async function readAt(file: FileHandle, offset: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; ) {
    const { bytesRead } = await file.read(bytes, at, length - at, offset + at);
    if (bytesRead === 0) throw malformed('the file became shorter while it was read');
    at += bytesRead;
  }
  return bytes;
}

/** Runs a decoder, and turns its errors into BUNDLE_MALFORMED. */
function parse<T>(decode: () => T): T {
  try {
    return decode();
  } catch (error) {
    if (!isSwarmError(error)) throw error;
    throw malformed(error.message);
  }
}
