import type { VersionManifest } from '../protocol/version-manifest.ts';
import type { Measurement } from './store/versions.ts';

/** A version of an adapter. It never changes, except that tags move and that it may be removed. */
export interface AdapterVersion {
  readonly name: string;
  readonly number: number;
  /** Name and number of the version: `NAME:vN`. */
  readonly label: string;
  /** Digest of the manifest: the version's identity on every machine. */
  readonly digest: string;
  /** Peer id of the machine that signed the manifest. */
  readonly author: string;
  readonly manifest: VersionManifest;
  /** The tags that name this version now, sorted. */
  readonly tags: readonly string[];
  readonly addedAt: number;
  /** Time of the removal, in milliseconds since 1970; null if the version has not been removed. */
  readonly removedAt: number | null;
}

/** Returns all metrics of a version. If a metric was measured several times, its newest value counts. */
export function allMetrics(
  version: Pick<AdapterVersion, 'manifest'>,
  measurements: readonly Measurement[],
): VersionManifest['metrics'] {
  return Object.assign({}, version.manifest.metrics, ...measurements.map(({ metrics }) => metrics));
}

/**
 * Returns whether the held-out losses of all versions were measured on the same rows; null if that is not known. The digests
 * of the rows tell it among the versions of jobs, and among those of training runs. A job computes its digest in another way
 * than a run.
 */
export function sameHeldOut(versions: readonly Pick<AdapterVersion, 'manifest'>[]): boolean | null {
  const byKind = [new Set<string>(), new Set<string>()] as const;
  let isKnown = true;
  for (const { manifest } of versions) {
    const digest = manifest.data.find(({ name }) => name === 'held-out')?.digest;
    if (manifest.metrics.heldOutLoss === undefined || digest === undefined) isKnown = false;
    else byKind[manifest.job === null ? 0 : 1].add(digest);
  }
  if (byKind.some(({ size }) => size > 1)) return false;
  return isKnown && byKind.some(({ size }) => size === 0) ? true : null;
}
