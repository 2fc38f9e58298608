import { thinned } from '../common/thinned.ts';
import { VERSION_CURVE, type VersionManifest } from '../protocol/version-manifest.ts';

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
