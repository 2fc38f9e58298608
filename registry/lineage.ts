import type { VersionManifest } from '../protocol/version-manifest.ts';
import type { Registry } from './registry.ts';
import type { AdapterVersion } from './version.ts';

/** A version and the versions that it was made from. */
export interface LineageNode {
  readonly digest: string;
  /** `NAME:vN`; for a version that this registry does not know, the label that its child gives it. */
  readonly label: string;
  /** null: this registry does not know the version. */
  readonly version: AdapterVersion | null;
  /** How the child was made from this version; null at the root. */
  readonly edge: Pick<VersionManifest['parents'][number], 'method' | 'weight'> | null;
  /** Whether the parents are listed at an earlier node with the same version. */
  readonly repeated: boolean;
  readonly parents: readonly LineageNode[];
}

/** Returns the lineage of a version. A version that occurs several times is expanded once. */
export function lineageOf(registry: Registry, version: AdapterVersion): LineageNode {
  const seen = new Set<string>();
  // A parent's digest is inside the signed manifest of its child, so no version is its own ancestor.
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
