import { isSwarmError } from '../common/errors.ts';
import { sha256 } from '../protocol/cbor.ts';
import { BLOB_CODES } from '../storage/errors.ts';
import type { Findings } from './findings.ts';
import type { JobFacts } from './job-facts.ts';
import type { BlobWanted } from './record.ts';

/**
 * Reads a blob and verifies its digest and size. Reports a wrong digest or size to `findings`.
 * @returns null if the source does not have the blob, or if the digest is wrong
 */
export async function readBlob(
  { record, signal }: Pick<JobFacts, 'record' | 'signal'>,
  wanted: BlobWanted,
  findings: Findings,
): Promise<Uint8Array | null> {
  signal.throwIfAborted();
  const { digest, size, maxBytes } = wanted;
  // Do not report a size above the limit here, because the checks of the signed messages report it.
  if (size !== null && size > maxBytes) return null;
  let bytes: Uint8Array | null;
  try {
    bytes = await record.blob(wanted);
  } catch (error) {
    signal.throwIfAborted();
    if (!isSwarmError(error) || !BLOB_CODES.has(error.code)) throw error;
    findings.problem('VERIFY_BLOB', `blob ${digest} is damaged: ${error.message}`, { digest });
    return null;
  }
  if (bytes === null) return null;
  const found = sha256(bytes);
  if (found !== digest) {
    const values = { digest, found, bytes: bytes.byteLength };
    findings.problem('VERIFY_BLOB', `the bytes of blob ${digest} have the digest ${found}`, values);
    return null;
  }
  if (size !== null && bytes.byteLength !== size) {
    const text = `blob ${digest} has ${bytes.byteLength} bytes, but the signed messages name ${size}`;
    findings.problem('VERIFY_METRICS', text, { digest, bytes: bytes.byteLength, size });
  }
  return bytes;
}
