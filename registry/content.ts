import { encodeCbor, sha256 } from '../protocol/cbor.ts';
import type { VersionManifest } from '../protocol/version-manifest.ts';

/** Returns a digest of a version's base and files. Versions with equal digests contain the same adapter. */
export function contentOf({ base, files }: Pick<VersionManifest, 'base' | 'files'>): string {
  const described = files
    .map(({ path, digest }) => ({ path, digest }))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
  return sha256(encodeCbor({ base: base.digest, files: described }));
}
