import type { VersionManifest } from '../protocol/version-manifest.ts';
import type { Registry } from './registry.ts';
import type { AdapterVersion } from './version.ts';

/** A version and the versions that it was made from. */
export interface LineageNode {
  readonly digest: string;
  /**
   * `NAME:vN`. If this registry does not know the version, the label is from the manifest that names the
   * version as a parent.
   */
  readonly label: string;
  /** The version; null if this registry does not know it. */
  readonly version: AdapterVersion | null;
  /**
   * Method and weight by which a later version was made from this version; null for the version whose lineage
   * this is.
   */
  readonly edge: Pick<VersionManifest['parents'][number], 'method' | 'weight'> | null;
  /**
   * Whether `parents` is left empty because the same version occurs earlier in the lineage, with its parents.
   */
  readonly repeated: boolean;
  readonly parents: readonly LineageNode[];
}

/** Returns the lineage of a version. A version that occurs several times is expanded once. */
export function lineageOf(registry: Registry, version: AdapterVersion): LineageNode {
  const seen = new Set<string>();
  // The recursion ends, because no version can be its own ancestor. A manifest contains the digests of its parents, so
  // the parents existed before it.
  const expand = (
    digest: string,
    label: string,
    known: AdapterVersion | null,
    edge: LineageNode['edge'],
  ): LineageNode => {
    const repeated = seen.has(digest);
    seen.add(digest);
    const parents = repeated || known === null ? [] : known.manifest.parents;
    return {
      digest,
      label: known?.label ?? label,
      version: known,
      edge,
      repeated: repeated && (known?.manifest.parents.length ?? 0) > 0,
      parents: parents.map((parent) =>
        expand(parent.digest, parent.label, registry.byDigest(parent.digest), {
          method: parent.method,
          weight: parent.weight,
        }),
      ),
    };
  };
  return expand(version.digest, version.label, version, null);
}
