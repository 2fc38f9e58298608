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

/** Returns the digest of the rows on which the held-out loss of a version was measured; null if there is none. */
export function heldOutDigest({ manifest }: Pick<AdapterVersion, 'manifest'>): string | null {
  if (manifest.metrics.heldOutLoss === undefined) return null;
  return manifest.data.find(({ name }) => name === 'held-out')?.digest ?? null;
}
