import { PROOFS_PER_ANSWER } from '../../protocol/limits.ts';
import type { Checkpoint } from '../../protocol/messages.ts';
import type { RpcResponse } from '../../protocol/rpc.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { BundleSource } from '../../verify/bundle/encode.ts';
import type { UpdateProof } from '../../verify/record.ts';
import { signedFigures } from '../audits/figures.ts';
import type { JobRun } from '../job-run.ts';

/**
 * Returns the signed update and the receipt of each contributor of a checkpoint; null where the update is not
 * stored.
 */
function proofsOf(
  contributors: Checkpoint['contributors'],
  { context, receipts }: Pick<JobRun, 'context' | 'receipts'>,
): (UpdateProof | null)[] {
  const { job, deps } = context;
  return contributors.map(({ peer, round, update }) => {
    const stored = deps.store.updates.find(job, round, peer);
    return stored && { evidence: stored.evidence, receipt: receipts.find(peer, update) };
  });
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
      for (const round of checkpoints) {
        const { envelope, residual, digest } = rounds.checkpoint(job, round)!;
        const { contributors, createdAt } = verifyMessage('checkpoint', envelope).message;
        yield {
          checkpoint: envelope,
          residual,
          proofs: proofsOf(contributors, run),
          // The figures are signed with the time of the checkpoint, because two bundles of a job must have
          // the same bytes.
          figures: signedFigures(round, context, createdAt),
          heads: digest === newest.head.checkpoint.digest ? [newest.envelope] : [],
        };
      }
    },
    blobs: withBlobs ? deps.blobs : null,
  };
}

/** Answers the request `record`. */
export async function answerRecord(
  run: JobRun,
  ordinal: number,
  first: number,
): Promise<RpcResponse<'record'>> {
  const { job, deps } = run.context;
  const stored = deps.store.rounds.checkpointAt(job, ordinal);
  if (stored === null) return { checkpoint: null, residual: null, proofs: [] };
  const { contributors } = verifyMessage('checkpoint', stored.envelope).message;
  const size = stored.residual && (await deps.blobs.size(stored.residual));
  return {
    checkpoint: stored.envelope,
    residual: size ? { digest: stored.residual!, size } : null,
    proofs: proofsOf(contributors.slice(first, first + PROOFS_PER_ANSWER), run),
  };
}
