/**
 * Reason codes of receipts. The code alone decides what the author does: updates with `accepted` and `late` count; after
 * any other code the author puts the update back into its error feedback.
 */
export const receiptMeanings = {
  accepted: 'durably recorded; part of the round unless the held-out gate leaves it out',
  late: 'recorded for the next round with reduced weight: it arrived after its round had closed',
  'wrong-job': 'the update names a job that this coordinator does not run',
  'wrong-term': 'the update follows an older coordinator; fetch the newest head',
  'wrong-round': 'the round has not started, or closed too long ago',
  'wrong-parent': 'the update starts from a different checkpoint than its round',
  'not-assigned': 'the round assigned this node no data, or other data than the update names',
  duplicate: 'this node already has an update in this round; the first one counts',
  'bad-signature': 'the signature does not belong to the author',
  malformed: 'the message is not strict CBOR with the right fields',
  'too-large': 'the payload is larger than its preset can need, or than the limit',
  'size-mismatch': 'the declared size or digest does not match the payload',
  'bad-payload': 'the payload does not decode: wrong structure, index out of bounds, trailing bytes',
  'not-finite': 'a scale in the payload is NaN or infinite (in the message itself: `malformed`)',
  'wrong-preset': 'the round uses a different compression preset',
  'not-admitted': 'the job does not admit this node',
  'rate-limited': 'too many updates from this node; wait for the next round',
  unavailable: 'the announced payload could not be fetched from its author in time',
  'left-out': 'the merged checkpoint was worse on held-out data with this update than without it',
  outlier: 'the update is many times larger than those of the other nodes in its round',
  'null-round': 'too few updates arrived, or none improved the adapter: the round changed nothing',
} as const;

/** Reason code of a receipt. */
export type ReceiptCode = keyof typeof receiptMeanings;
/** All reason codes. */
export const receiptCodes = Object.keys(receiptMeanings) as [ReceiptCode, ...ReceiptCode[]];

/** Whether the update is, or may still become, part of a checkpoint. */
export function counts(code: ReceiptCode): boolean {
  return code === 'accepted' || code === 'late';
}
