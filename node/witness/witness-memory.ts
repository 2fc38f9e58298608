import type { Manifest } from '../../protocol/job/manifest.ts';
import { DRIFT_UPDATES } from '../../verify/merge/merge-updates.ts';
import { nodeError } from '../errors.ts';

/** Memory of a process that verifies a tiny adapter, in bytes, including memory that its garbage collector has not freed yet. */
const PROCESS_BYTES = 350 * 2 ** 20;
/** Number of copies of the adapter that a verification holds, besides the updates. Decision 108 has the measurement. */
const ADAPTER_COPIES = 18;
const FLOAT_BYTES = 4;

/**
 * Returns the memory in bytes that the verification of a checkpoint takes at most. Up to DRIFT_UPDATES decoded updates
 * are in memory at once, and each of them is at most as large as the adapter.
 */
export function verificationBytes({ adapter }: Manifest, contributors: number): number {
  const copies = ADAPTER_COPIES + Math.min(contributors, DRIFT_UPDATES);
  return PROCESS_BYTES + copies * adapter.parameters * FLOAT_BYTES;
}

/**
 * Checks that a verification fits into the memory that the owner of the machine lends.
 * @param spare memory in bytes that the training leaves
 * @throws SwarmError WITNESS_MEMORY
 */
export function requireMemory(
  { manifest, contributors, round }: { manifest: Manifest; contributors: number; round: number },
  spare: number,
): void {
  const needed = verificationBytes(manifest, contributors);
  if (needed <= spare) return;
  const text = `the verification of round ${round} needs ${mebibytes(needed)} of memory, but the training leaves ${mebibytes(spare)} of --max-memory`;
  throw nodeError('WITNESS_MEMORY', text, { round, needed, spare });
}

function mebibytes(bytes: number): string {
  return `${Math.ceil(Math.max(0, bytes) / 2 ** 20)} MiB`;
}
