import { defineErrors, type SwarmError } from '../../common/errors.ts';

/**
 * Errors of lora/update. The codes up to UPDATE_RESIDUAL are about bytes from a peer or a disk. The remaining codes are
 * about arguments from this program. docs/update-format.md lists the check behind each code.
 */
export const updateError = defineErrors({
  /** The length is outside the limits that follow from layout and preset, or differs from the length in the header. */
  UPDATE_SIZE: 'failed',
  /**
   * The bytes begin with another magic number or version. They are not an update, or are an update of another
   * release.
   */
  UPDATE_HEADER: 'failed',
  /** The preset of the update differs from the preset of the job. */
  UPDATE_PRESET: 'failed',
  /** The number, names or shapes of the tensors differ from the layout of the job. */
  UPDATE_LAYOUT: 'failed',
  /** A scale code is above the largest one. Negative, subnormal, infinite and NaN scales have no code. */
  UPDATE_SCALE: 'failed',
  /** An index lies beyond the end of its chunk. */
  UPDATE_INDEX: 'failed',
  /** The encoding differs from the only encoding that is valid for its content. */
  UPDATE_CANONICAL: 'failed',
  /** A stored residual has a wrong checksum. */
  UPDATE_RESIDUAL: { kind: 'failed', next: 'start from an empty residual' },
  /** A value to encode is not finite, or is too large for a scale. */
  UPDATE_VALUES: { kind: 'failed', next: 'skip this round, because training has diverged' },
  /** The number or the length of tensors, factors or updates does not fit the layout. */
  UPDATE_SHAPE: 'failed',
  /** An update was added to a merge twice, out of order, or after the end of the merge. */
  UPDATE_ORDER: 'failed',
  /** A weight, rate or decay is outside its range. */
  UPDATE_WEIGHT: 'failed',
});

/** Code of an error of this folder. */
export type UpdateErrorCode = keyof typeof updateError.table;

/** Codes of errors in the bytes of a payload. The author of the payload is at fault. */
export const PAYLOAD_CODES: ReadonlySet<string> = new Set<UpdateErrorCode>([
  'UPDATE_SIZE',
  'UPDATE_HEADER',
  'UPDATE_PRESET',
  'UPDATE_LAYOUT',
  'UPDATE_SCALE',
  'UPDATE_INDEX',
  'UPDATE_CANONICAL',
]);

/** Returns the error for a payload that ends in the middle of a tensor. */
export function truncated(name: string): SwarmError {
  return updateError('UPDATE_SIZE', `the update ends in the middle of ${name}`, { name });
}

/** Returns the error for a tensor whose content has a shorter or another valid encoding. */
export function notCanonical(name: string, why: string): SwarmError {
  return updateError('UPDATE_CANONICAL', `${name} is not in canonical encoding: ${why}`, { name, why });
}

/** Returns the error for a tensor with a value that the format cannot hold. */
export function notEncodable(name: string): SwarmError {
  return updateError('UPDATE_VALUES', `a value of ${name} is too large or not finite`, { name });
}
