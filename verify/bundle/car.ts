/**
 * The container of a bundle: a CARv1 file (https://ipld.io/specs/transport/car/carv1/) with one root. Each section has
 * one block with its CID, which holds the SHA-256 of the block.
 */
import { encode } from '@ipld/dag-cbor';
import { CID } from 'multiformats/cid';
import { create } from 'multiformats/hashes/digest';
import { verifyError } from '../errors.ts';

/** Codes of the two kinds of blocks in the multicodec table. */
export const RAW = 0x55;
export const DAG_CBOR = 0x71;
export type BlockKind = typeof RAW | typeof DAG_CBOR;

const SHA_256 = 0x12;
const DIGEST_BYTES = 32;
/** Bytes of a CID: version, kind of the block, kind of the digest, length of the digest, digest. */
export const CID_BYTES = 4 + DIGEST_BYTES;
/** Maximum number of bytes of a length. Seven bytes hold lengths below 2^49. */
const VARINT_BYTES = 7;
/** Number of bytes that always contain the whole head of a section. */
export const SECTION_HEAD_BYTES = VARINT_BYTES + CID_BYTES;

/** Encodes an unsigned LEB128 number. */
function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  return Uint8Array.from([...bytes, rest]);
}

/** Returns the header of a file whose root is the DAG-CBOR block with this digest. All headers have the same length. */
export function carHeader(root: string): Uint8Array {
  const cid = CID.createV1(DAG_CBOR, create(SHA_256, Buffer.from(root, 'hex')));
  const header = encode({ roots: [cid], version: 1 });
  return Buffer.concat([varint(header.byteLength), header]);
}

/** Returns the bytes of a section before its block. @param size number of bytes of the block */
export function sectionHead(kind: BlockKind, digest: string, size: number): Uint8Array {
  const cid = [1, kind, SHA_256, DIGEST_BYTES];
  return Buffer.concat([varint(CID_BYTES + size), Uint8Array.from(cid), Buffer.from(digest, 'hex')]);
}

/** A section of a file. */
export interface Section {
  readonly kind: BlockKind;
  readonly digest: string;
  /** Number of bytes before the block. */
  readonly headBytes: number;
  /** Number of bytes of the block. */
  readonly size: number;
}

/** Decodes the head of a section. @param bytes at least the head, or all bytes up to the end of the file */
export function decodeSectionHead(bytes: Uint8Array): Section {
  let length = 0;
  let at = 0;
  for (let factor = 1; ; factor *= 0x80) {
    const byte = bytes[at++];
    if (byte === undefined || at > VARINT_BYTES) throw malformed('a section has no valid length');
    length += (byte & 0x7f) * factor;
    if (byte < 0x80) {
      if (byte === 0 && at > 1) throw malformed('a length is longer than it must be');
      break;
    }
  }
  const [version, kind, hash, digestBytes] = bytes.subarray(at, at + 4);
  const isKind = kind === RAW || kind === DAG_CBOR;
  if (version !== 1 || !isKind || hash !== SHA_256 || digestBytes !== DIGEST_BYTES || length < CID_BYTES)
    throw malformed('a section has no CID of version 1 with a SHA-256');
  if (bytes.length < at + CID_BYTES) throw malformed('the file ends inside a section');
  const digest = Buffer.from(bytes.subarray(at + 4, at + CID_BYTES)).toString('hex');
  return { kind, digest, headBytes: at + CID_BYTES, size: length - CID_BYTES };
}

/** Returns the error about a file that is not a bundle. */
export function malformed(reason: string) {
  return verifyError('BUNDLE_MALFORMED', `the file is not a bundle of a job: ${reason}`, { reason });
}
