import { defineErrors } from '../../common/errors.ts';

/**
 * Errors of lora/update. The codes up to UPDATE_RESIDUAL are about bytes from a peer or a disk. The remaining codes are
 * about arguments from this program. docs/update-format.md lists the check behind each code.
 */
export const updateError = defineErrors({
  /** The length is outside the limits that follow from layout and preset, or differs from the length in the header. */
  UPDATE_SIZE: 'failed',
  /** Wrong magic or version: not an update, or an update of a different release. */
  UPDATE_HEADER: 'failed',
  /** The preset differs from the job's. */
  UPDATE_PRESET: 'failed',
  /** The tensors differ from the job's. */
  UPDATE_LAYOUT: 'failed',
  /** A scale code above the largest. Negative, subnormal, infinite and NaN scales have no code. */
  UPDATE_SCALE: 'failed',
  /** An index beyond the end of its chunk. */
  UPDATE_INDEX: 'failed',
  /** An encoding other than the single valid encoding of its content. */
  UPDATE_CANONICAL: 'failed',
  /** A stored residual with a wrong checksum. */
  UPDATE_RESIDUAL: { kind: 'failed', next: 'start from an empty residual' },
  /** Values to encode that are too large for a scale or not finite. */
  UPDATE_VALUES: { kind: 'failed', next: 'skip this round, because training has diverged' },
  /** A number or length of tensors, factors or updates that does not fit the layout. */
  UPDATE_SHAPE: 'failed',
  /** Updates added to a merge twice, out of order, or after its end. */
  UPDATE_ORDER: 'failed',
  /** A weight, rate or decay outside its range. */
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
