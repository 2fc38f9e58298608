import { adapterNameSchema, nameSchema } from '../protocol/ids.ts';
import { registryError } from './errors.ts';

/**
 * A reference to a version, as people write it: a name with a tag, a number or a digest. A name alone means the tag
 * `latest`.
 */
export type VersionReference =
  | { readonly name: string; readonly tag: string }
  | { readonly name: string; readonly number: number }
  | { readonly name: string; readonly digest: string };

/** The tag of the version that was added last. An older checkpoint of a job does not take it from a newer one. */
export const LATEST = 'latest';

/**
 * Minimum number of digits of an abbreviated digest. Among 1,000 versions of a name, the probability that two digests
 * begin with the same 8 digits is about 1 in 9,000.
 */
const DIGEST_DIGITS = 8;
const NUMBER = /^v([1-9]\d{0,8})$/;
const DIGEST = new RegExp(`^[0-9a-f]{${DIGEST_DIGITS},64}$`);

/**
 * Parses `NAME`, `NAME:TAG`, `NAME:vN` or `NAME@DIGEST`, where the digest may be abbreviated to its first 8 digits.
 * @returns null if the text has none of these forms
 */
export function parseReference(text: string): VersionReference | null {
  const [, name = '', mark, rest = ''] = /^([^:@]*)([:@])?(.*)$/s.exec(text) ?? [];
  if (!nameSchema.safeParse(name).success) return null;
  if (mark === undefined) return { name, tag: LATEST };
  if (mark === '@') return DIGEST.test(rest) ? { name, digest: rest } : null;
  const number = NUMBER.exec(rest);
  if (number !== null) return { name, number: Number(number[1]) };
  return isTag(rest) ? { name, tag: rest } : null;
}

/** Parses a reference. @throws SwarmError REFERENCE_INVALID */
export function requireReference(text: string): VersionReference {
  const reference = parseReference(text);
  if (reference !== null) return reference;
  const shown = text.slice(0, 200);
  throw registryError('REFERENCE_INVALID', `"${shown}" does not name a version of an adapter`, {
    reference: shown,
  });
}

/** Checks the name of a new version. @throws SwarmError VERSION_NAME */
export function requireNewName(name: string): void {
  const { error } = adapterNameSchema.safeParse(name);
  if (error)
    throw registryError('VERSION_NAME', `the name of an adapter ${error.issues[0]!.message}`, { name });
}

/** Returns whether a text can be a tag. Texts such as "v3" cannot, because they are numbers of versions. */
export function isTag(text: string): boolean {
  return nameSchema.safeParse(text).success && !/^v\d+$/.test(text);
}

/** Formats a version as `NAME:vN`. */
export function labelOf({ name, number }: { name: string; number: number }): string {
  return `${name}:v${number}`;
}
