/**
 * The reason codes of receipts and their meanings. The code alone decides what the author does. After
 * `accepted` and `late`, the update counts. After any other code, the author adds the update back to its
 * error feedback.
 */
export const receiptMeanings = {
  accepted:
    'the update is stored durably; it becomes part of the checkpoint, unless a later receipt says otherwise',
  late: 'the update arrived after its round had closed; it counts in the next merge, with a lower weight',
  'wrong-job': 'the update names a job that this coordinator does not run',
  'wrong-term': "the update names a term that is not the job's current one; fetch the newest head",
  'wrong-round':
    "the update's round has not started, or it closed too long ago, or the job merges no more updates",
  'wrong-parent': 'the update does not start from the checkpoint of its round',
  'not-assigned': 'the round assigned this node no rows, or not the rows that the update names',
  duplicate: 'a copy of an update of another node; only the author of an update may send it',
  conflicting:
    'the node signed two different updates for this round; both are kept as proof, and neither counts',
  'bad-signature': 'the author did not make the signature',
  malformed: 'the message is not strict CBOR, or one of its fields is wrong',
  'too-large':
    'the message or its payload is larger than allowed; the maximum size of a payload depends on the preset',
  'size-mismatch': 'the payload does not have the declared size or digest',
  'bad-payload':
    'the payload cannot be decoded, because it has a wrong structure, an index out of bounds or trailing bytes; or all of its values are zero',
  'not-finite':
    'a scale in the payload is above 2¹⁷, infinite or not a number, so its scale code is above 8191. If another field of the message is NaN, the reason code is `malformed`',
  'wrong-preset': 'the round uses a different compression preset',
  'not-admitted': 'the node has not joined the job, or has lost its place',
  'rate-limited': 'the node sent too many updates; wait for the next round',
  unavailable: 'the coordinator could not fetch the announced payload from its author in time',
  'left-out': 'the gate left out the updates of this person, because the held-out loss is lower without them',
  harmful:
    'the merge left the update out, because it changes nothing, or raises the loss by more than two standard errors on rows that no node trained on',
  outlier: 'the norm of the update is far above the norms of the other updates in its round',
  'null-round':
    'the update was not merged, because its round ended without a merge or the update came too late',
} as const;

/** Reason code of a receipt. */
export type ReceiptCode = keyof typeof receiptMeanings;
/** All reason codes. */
export const receiptCodes = Object.keys(receiptMeanings) as [ReceiptCode, ...ReceiptCode[]];

/** Returns whether an update with this code is, or may still become, part of a checkpoint. */
export function counts(code: ReceiptCode): boolean {
  return code === 'accepted' || code === 'late';
}
