import { defineErrors } from '../../common/errors.ts';

/**
 * The reasons why lora/update refuses something. The first eight are about bytes from a peer or from a disk, the others
 * about arguments from this program. docs/update-format.md says which check gives which code.
 */
export const updateError = defineErrors({
  /** A length outside what layout and preset allow, or other than the header declares. */
  UPDATE_SIZE: 'failed',
  /** Wrong magic or version: not an update, or one of another release. */
  UPDATE_HEADER: 'failed',
  /** Another preset than the job asks for. */
  UPDATE_PRESET: 'failed',
  /** Made for other tensors than the job's. */
  UPDATE_LAYOUT: 'failed',
  /** A scale code above the largest. Negative, subnormal, infinite and NaN scales have no code at all. */
  UPDATE_SCALE: 'failed',
  /** An index beyond the end of its chunk. */
  UPDATE_INDEX: 'failed',
  /** Not the one permitted encoding of its content. */
  UPDATE_CANONICAL: 'failed',
  /** A stored residual with a wrong checksum or wrong values. */
  UPDATE_RESIDUAL: 'failed',
  /** Values to encode that are not finite, or too large for a scale. */
  UPDATE_VALUES: 'failed',
  /** Tensors, factors or updates whose number or length does not fit the layout. */
  UPDATE_SHAPE: 'failed',
  /** Updates added to a merge twice, out of order, or after its end. */
  UPDATE_ORDER: 'failed',
  /** A weight, rate or decay outside its range. */
  UPDATE_WEIGHT: 'failed',
});

export type UpdateErrorCode = keyof typeof updateError.table;
