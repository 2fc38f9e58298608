import { isSwarmError } from '../../common/errors.ts';
import { requireSameBase } from '../../registry/known-base.ts';
import type { VersionReference } from '../../registry/reference.ts';
import type { Registry } from '../../registry/registry.ts';
import type { AdapterSource } from './adapter-source.ts';

/** Errors of the registry for versions that do not exist. */
const UNKNOWN = ['REFERENCE_INVALID', 'TAG_UNKNOWN', 'VERSION_REMOVED', 'VERSION_UNKNOWN'];
const NUMBER = /^v([1-9]\d{0,8})$/;

export interface RegistrySourceOptions {
  /**
   * The version for requests that name only the adapter. If the reference names a tag, the tag is looked up
   * for each request.
   */
  readonly reference: VersionReference;
  /** Digest and folder of the server's base. */
  readonly base: { readonly digest: string; readonly dir: string };
}

/** Returns a source of adapters: the versions that the registry has under one name. */
export function registrySource(
  { reference, base }: RegistrySourceOptions,
  { registry }: { registry: Registry },
): AdapterSource {
  const { name } = reference;
  return {
    name,
    origin: `registry ${registry.home}`,
    async find(choice) {
      const asked = choice === null ? reference : { name, ...choice };
      try {
        const version = registry.resolve('tag' in asked ? taggedOrNumbered(asked) : asked);
        requireSameBase(version, { digest: base.digest, where: base.dir });
        return { digest: version.digest, folder: () => registry.folder(version) };
      } catch (error) {
        if (isSwarmError(error) && UNKNOWN.includes(error.code)) return null;
        throw error;
      }
    },
  };
}

/** Returns the reference for the part after the colon: `v3` is a number, everything else is a tag. */
function taggedOrNumbered({ name, tag }: { name: string; tag: string }): VersionReference {
  const [, number] = NUMBER.exec(tag) ?? [];
  return number === undefined ? { name, tag } : { name, number: Number(number) };
}
