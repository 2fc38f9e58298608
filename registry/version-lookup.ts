import { verifyMessage } from '../protocol/signing.ts';
import type { VersionManifest } from '../protocol/version-manifest.ts';
import { registryError, tagUnknown } from './errors.ts';
import { LATEST, labelOf, type VersionReference } from './reference.ts';
import type { TagTable } from './store/tags.ts';
import type { StoredVersion, VersionTable } from './store/versions.ts';
import type { AdapterVersion } from './version.ts';

/** Finds versions by reference, and reads their signed manifests. */
export class VersionLookup {
  readonly #versions: VersionTable;
  readonly #tags: TagTable;

  constructor(deps: { versions: VersionTable; tags: TagTable }) {
    this.#versions = deps.versions;
    this.#tags = deps.tags;
  }

  /** Returns the row that a reference names. @throws SwarmError VERSION_UNKNOWN, TAG_UNKNOWN, REFERENCE_INVALID */
  find(reference: VersionReference): StoredVersion {
    const { name } = reference;
    if ('digest' in reference) return this.#withDigest(name, reference.digest);
    let number: number | null;
    if ('number' in reference) number = reference.number;
    else {
      number = this.#tags.current(name, reference.tag);
      if (number === null && this.#versions.ofName(name).some(({ removedAt }) => removedAt === null)) {
        throw tagUnknown(name, reference.tag);
      }
    }
    const stored = number === null ? null : this.#versions.get(name, number);
    if (stored !== null) return stored;
    const what = number === null ? name : labelOf({ name, number });
    throw registryError('VERSION_UNKNOWN', `the registry has no adapter ${what}`, { name, number });
  }

  /** Returns whether the tag `latest` names a later checkpoint of the same job. */
  hasLater({ name, job }: Pick<VersionManifest, 'name' | 'job'>): boolean {
    const number = this.#tags.current(name, LATEST);
    const latest = number === null ? null : this.#versions.get(name, number);
    if (job === null || latest === null) return false;
    const { message } = verifyMessage('version-manifest', latest.envelope);
    return message.job?.digest === job.digest && message.job.round > job.round;
  }

  #withDigest(name: string, prefix: string): StoredVersion {
    const found = this.#versions.withDigest(name, prefix);
    if (found.length === 1) return found[0]!;
    const values = { name, digest: prefix, versions: found.map(labelOf) };
    if (found.length === 0)
      throw registryError('VERSION_UNKNOWN', `the registry has no version ${name}@${prefix}`, values);
    const message = `${found.length} versions of ${name} have a digest that begins with ${prefix}`;
    throw registryError('REFERENCE_INVALID', message, values, { next: 'give more digits of the digest' });
  }

  /**
   * Converts a row to a version: verifies its manifest, and looks up its tags.
   * @throws SwarmError SIGNATURE_INVALID, MESSAGE_*
   */
  view(stored: StoredVersion): AdapterVersion {
    const { name, number, addedAt, removedAt } = stored;
    const { author, message, digest } = verifyMessage('version-manifest', stored.envelope);
    const tags = [...this.#tags.all(name)].filter(([, at]) => at === number).map(([tag]) => tag);
    return {
      name,
      number,
      label: labelOf(stored),
      digest,
      author,
      manifest: message,
      tags,
      addedAt,
      removedAt,
    };
  }
}
