import { isSwarmError } from '../../common/errors.ts';
import { type CheckpointReport, LISTED_PROBLEMS, type Problem } from '../findings.ts';
import { type VerifyOptions, type VerifyReport, verifyRecord } from '../verify-job.ts';
import { blobsOf, type UsedBlob } from './encode.ts';
import { type OpenBundle, openBundle } from './open.ts';

/** Verifies the job in a bundle file. @throws SwarmError BUNDLE_MALFORMED, and the errors of `verifyRecord` */
export async function verifyBundle(file: string, options: VerifyOptions = {}): Promise<VerifyReport> {
  const bundle = await openBundle(file);
  try {
    const report = await verifyRecord(bundle, options);
    const { signal = new AbortController().signal } = options;
    const problems = [...report.problems];
    let uses: Map<string, UsedBlob> | null = null;
    // The verification does not read the blocks of adapters, deltas and residuals that it computes. Read these blocks
    // here, to find damage.
    for await (const digest of bundle.damagedBlocks(signal)) {
      if (problems.length >= LISTED_PROBLEMS) break;
      uses ??= await usesOf(bundle, signal);
      problems.push(damage(digest, uses.get(digest) ?? null));
    }
    return { ...report, ok: problems.length === 0, checkpoints: withMissing(report, bundle), problems };
  } finally {
    await bundle.close();
  }
}

/** Adds to the reports of the checkpoints the blobs that the bundle lacks because the coordinator could not repair them. */
function withMissing(
  { checkpoints }: Pick<VerifyReport, 'checkpoints'>,
  bundle: Pick<OpenBundle, 'missing'>,
): CheckpointReport[] {
  const missing = Map.groupBy(bundle.missing, ({ round }) => round);
  return checkpoints.map((report) => {
    const unchecked = (missing.get(report.round) ?? []).map(({ use, digest }) => ({
      check: use === 'adapter' || use === 'delta' ? ('adapter' as const) : ('merge' as const),
      reason: `the ${use} ${digest} was damaged when the coordinator wrote the bundle`,
    }));
    // A hostile bundle can have many blobs and many checkpoints of one round, so each blob is named once.
    missing.delete(report.round);
    return { ...report, unchecked: [...report.unchecked, ...unchecked] };
  });
}

/** Returns the first use of each blob that a readable checkpoint names. */
async function usesOf(bundle: OpenBundle, signal: AbortSignal): Promise<Map<string, UsedBlob>> {
  const uses = new Map<string, UsedBlob>();
  for await (const record of bundle.wholeCheckpoints(signal)) {
    try {
      for (const blob of blobsOf(record)) if (!uses.has(blob.digest)) uses.set(blob.digest, blob);
    } catch (error) {
      // Skip a checkpoint that is not valid, because the report already has a problem for it.
      if (!isSwarmError(error)) throw error;
    }
  }
  return uses;
}

/** Returns the problem of a damaged block, with the round and the use of the blob. */
function damage(digest: string, used: UsedBlob | null): Problem {
  if (used === null) {
    const message = `block ${digest} in the file is damaged, and no readable checkpoint names it`;
    return { code: 'VERIFY_BLOB', round: null, message, values: { digest } };
  }
  const { round, use } = used;
  const message = `round ${round}: the ${use} ${digest} in the file is damaged`;
  return { code: 'VERIFY_BLOB', round, message, values: { round, digest, use } };
}
