import { thinned } from '../common/thinned.ts';
import { VERSION_CURVE, VERSION_ROLL_BACKS, type VersionManifest } from '../protocol/version-manifest.ts';

/**
 * Returns the held-out losses for the manifest of a version. Leaves out losses that were not measured. If there are too
 * many, keeps losses that are spread evenly over the training.
 * @param losses oldest first; `loss` is null if it was not measured
 */
export function versionCurve(
  losses: readonly { at: number; loss: number | null }[],
): NonNullable<VersionManifest['curve']> {
  const measured = losses.flatMap(({ at, loss }) => (loss === null ? [] : [{ at, loss }]));
  return [...thinned(measured, VERSION_CURVE)];
}

/** Returns the newest roll-backs among checkpoints, oldest first, for the manifest of a version. */
export function rollBacksOf(
  checkpoints: readonly { readonly round: number; readonly restores?: number | null }[],
): NonNullable<VersionManifest['rollBacks']> {
  const all = checkpoints.flatMap(({ round, restores = null }) =>
    restores === null ? [] : [{ round, restores }],
  );
  return all.slice(-VERSION_ROLL_BACKS);
}
