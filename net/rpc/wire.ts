/** The parts of `/lora-swarm/rpc/2` that the caller and the callee share. */
import { z } from 'zod';
import { isSwarmError, type SwarmError } from '../../common/errors.ts';
import { protocolError } from '../../protocol/errors.ts';
import { DETAIL_CHARACTERS } from '../../protocol/limits.ts';

/**
 * Maximum length of a method name. The name is sent as a separate frame, so that the size limit of the body is known
 * before the body is read.
 */
export const METHOD_NAME_BYTES = 32;
/** Bytes allowed for the CBOR envelope of an answer, in addition to its body. The largest refusal also fits. */
export const ANSWER_OVERHEAD_BYTES = 2048;

/** An answer that refuses a call. */
export const refusalSchema = z.strictObject({
  error: z.strictObject({ code: z.string().max(64), message: z.string().max(DETAIL_CHARACTERS) }),
});

/** Returns whether the other side sent a frame above its limit, or more bytes than it may send before an answer. */
export function isOversized(error: unknown): boolean {
  return isSwarmError(error, 'FRAME_TOO_LARGE') || isSwarmError(error, 'FRAME_FLOOD');
}

export function oversized(method: string, what: string, bytes: number, maxBytes: number): SwarmError {
  return protocolError(
    'MESSAGE_TOO_LARGE',
    `the ${what} of the call "${method}" has ${bytes} bytes, more than the limit of ${maxBytes}`,
    { method, bytes, maxBytes },
  );
}
