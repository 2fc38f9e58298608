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

/** Progress of the checks and repairs before a bundle is written. */
export interface BundleRepair {
  /** Number of blobs that have been checked. */
  readonly checked: number;
  /** Number of all blobs. */
  readonly blobs: number;
  /** The blob that is being repaired; null while the next blob is checked. */
  readonly repairing: MissingBlob | null;
}

/**
 * Reads all blobs of a job that a bundle would have. Repairs damaged blobs, and missing blobs that the job still needs.
 * Yields the progress.
 * @returns the blobs that cannot be repaired
 * @throws SwarmError MESSAGE_*, SIGNATURE_INVALID
 */
export async function* repairBundled(
  source: BundleSource,
  {
    blobs,
    store,
    repair,
    signal,
  }: Pick<CoordinatorDeps, 'store' | 'blobs'> & { repair: Repairs; signal: AbortSignal },
): AsyncGenerator<BundleRepair, MissingBlob[], undefined> {
  const missing: MissingBlob[] = [];
  const needed = [...blobsIn(source)].filter(({ digest }) => store.blobs.needs(digest));
  for (const [checked, { digest, use, round }] of needed.entries()) {
    yield { checked, blobs: needed.length, repairing: null };
    if ((await blobs.check(digest, { signal })) === 'whole') continue;
    yield { checked, blobs: needed.length, repairing: { use, round, digest } };
    if (!(await repair.repair(digest))) missing.push({ use, round, digest });
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
