import type { Checkpoint } from '../../protocol/messages.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { Repairs } from '../../storage/lost-blobs.ts';
import { type BundleSource, blobsIn } from '../../verify/bundle/encode.ts';
import type { MissingBlob } from '../../verify/bundle/format.ts';
import { nullRounds, type UpdateProof } from '../../verify/record.ts';
import { signedFigures } from '../audits/figures.ts';
import type { CoordinatorDeps } from '../context.ts';
import type { JobRun } from '../job-run.ts';

/**
 * Returns the signed update and the receipt of each contributor of a checkpoint; null where the update is not
 * stored.
 */
export function proofsOf(
  contributors: Checkpoint['contributors'],
  { context, receipts }: Pick<JobRun, 'context' | 'receipts'>,
): (UpdateProof | null)[] {
  const { job, deps } = context;
  return contributors.map(({ peer, round, update }) => {
    const stored = deps.store.updates.find(job, round, peer);
    return stored && { evidence: stored.evidence, receipt: receipts.find(peer, update) };
  });
}

/**
 * Reads all blobs of a job that a bundle would have. Repairs damaged blobs, and missing blobs that the job still needs.
 * @returns the blobs that cannot be repaired
 * @throws SwarmError MESSAGE_*, SIGNATURE_INVALID
 */
export async function repairBundled(
  source: BundleSource,
  {
    blobs,
    store,
    repair,
    signal,
  }: Pick<CoordinatorDeps, 'store' | 'blobs'> & { repair: Repairs; signal: AbortSignal },
): Promise<MissingBlob[]> {
  const missing: MissingBlob[] = [];
  for (const { digest, use, round } of blobsIn(source)) {
    if (!store.blobs.needs(digest)) continue;
    if ((await blobs.check(digest, { signal })) === 'whole' || (await repair.repair(digest))) continue;
    missing.push({ use, round, digest });
  }
  return missing;
}

/** Returns the whole record of a job, for a bundle. @param options.withBlobs whether the bundle has the blobs too */
export function bundleSource(run: JobRun, { withBlobs }: { withBlobs: boolean }): BundleSource {
  const { context, record } = run;
  const { job, stored, deps } = context;
  const { rounds, jobs } = deps.store;
  const newest = record.heads.newest;
  const checkpoints = rounds.checkpointRounds(job).filter((round) => round <= newest.head.checkpoint.round);
  return {
    manifest: stored.manifest,
    settings: jobs.settings(job),
    *checkpoints() {
      for (const [i, round] of checkpoints.entries()) {
        const { envelope, residual, digest } = rounds.checkpoint(job, round)!;
        const { contributors, createdAt } = verifyMessage('checkpoint', envelope).message;
        yield {
          checkpoint: envelope,
          residual,
          proofs: proofsOf(contributors, run),
          // The figures are signed with the time of the checkpoint, because two bundles of a job must have
          // the same bytes.
          figures: signedFigures(round, context, createdAt),
          nullFigures: nullRounds(checkpoints[i - 1] ?? round, round).flatMap(
            (one) => signedFigures(one, context, createdAt) ?? [],
          ),
          heads: digest === newest.head.checkpoint.digest ? [newest.envelope] : [],
        };
      }
    },
    blobs: withBlobs ? deps.blobs : null,
  };
}
