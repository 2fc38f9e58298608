import { SwarmError } from '../../common/errors.ts';

/**
 * Every reason for which lora/update refuses something. The first eight concern bytes that came from a peer
 * or a disk; the rest concern arguments of our own program. docs/update-format.md says which check gives which.
 */
export type UpdateErrorCode =
  /** Length outside what layout and preset allow, or not the length that the header declares. */
  | 'UPDATE_SIZE'
  /** Wrong magic or version: not an update, or one of another release. */
  | 'UPDATE_HEADER'
  /** A preset other than the one the job asks for. */
  | 'UPDATE_PRESET'
  /** Made for other tensors than the job's. */
  | 'UPDATE_LAYOUT'
  /** A scale code above the largest. Negative, subnormal, infinite and NaN scales have no code at all. */
  | 'UPDATE_SCALE'
  /** An index beyond the end of its chunk. */
  | 'UPDATE_INDEX'
  /** A second way to write a content that has another, the only permitted, encoding. */
  | 'UPDATE_CANONICAL'
  /** A stored residual whose checksum or values are wrong. */
  | 'UPDATE_RESIDUAL'
  /** Values to encode that are not finite or beyond what a scale can express. */
  | 'UPDATE_VALUES'
  /** Tensors, factors or updates whose number or length does not fit the layout. */
  | 'UPDATE_SHAPE'
  /** Updates added to a merge twice, out of order, or after its end. */
  | 'UPDATE_ORDER'
  /** A weight, rate or decay outside its range. */
  | 'UPDATE_WEIGHT';

export function updateError(
  code: UpdateErrorCode,
  message: string,
  values: Record<string, unknown> = {},
): SwarmError<UpdateErrorCode> {
  return new SwarmError(code, message, values);
}
