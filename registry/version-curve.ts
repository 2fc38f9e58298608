import { thinned } from '../common/thinned.ts';
import { VERSION_CURVE, type VersionManifest } from '../protocol/version-manifest.ts';

/**
 * Returns the held-out losses that the manifest of a version may have: without those that were not measured, and spread
 * evenly over the training if there are too many.
 * @param losses oldest first; `loss` is null if it was not measured
 */
export function versionCurve(
  losses: readonly { at: number; loss: number | null }[],
): NonNullable<VersionManifest['curve']> {
  const measured = losses.flatMap(({ at, loss }) => (loss === null ? [] : [{ at, loss }]));
  return [...thinned(measured, VERSION_CURVE)];
}
