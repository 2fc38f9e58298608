import type { Problem } from '../findings.ts';
import { LISTED_PROBLEMS, type VerifyOptions, type VerifyReport, verifyRecord } from '../verify-job.ts';
import { blobsOf } from './encode.ts';
import { type OpenBundle, openBundle } from './open.ts';

/** Verifies the job in a bundle file. @throws SwarmError BUNDLE_MALFORMED, and the errors of `verifyRecord` */
export async function verifyBundle(file: string, options: VerifyOptions = {}): Promise<VerifyReport> {
  const bundle = await openBundle(file);
  try {
    const report = await verifyRecord(bundle, options);
    const { signal = new AbortController().signal } = options;
    const problems = [...report.problems];
    // If the verification computes an adapter, delta or residual, it does not read the block that contains it. Such blocks
    // are read here, to find damage.
    for await (const digest of bundle.damagedBlocks(signal)) {
      if (problems.length >= LISTED_PROBLEMS) break;
      problems.push(await damage(digest, bundle));
    }
    return { ...report, ok: problems.length === 0, problems };
  } finally {
    await bundle.close();
  }
}

/** Returns the problem of a damaged block, with the round and the use of the blob. */
async function damage(digest: string, bundle: OpenBundle): Promise<Problem> {
  for await (const record of bundle.checkpoints(0)) {
    const used = blobsOf(record).find((blob) => blob.digest === digest);
    if (used === undefined) continue;
    const { round, use } = used;
    const message = `round ${round}: the ${use} ${digest} in the file is damaged`;
    return { code: 'VERIFY_BLOB', round, message, values: { round, digest, use } };
  }
  const message = `block ${digest} in the file is damaged, and no checkpoint names it`;
  return { code: 'VERIFY_BLOB', round: null, message, values: { digest } };
}
