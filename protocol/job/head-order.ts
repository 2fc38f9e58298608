import { z } from 'zod';

/** The position of a head among the heads of its job: by term, then by sequence. */
export const headOrderSchema = z.strictObject({ term: z.int().positive(), sequence: z.int().positive() });
/** The position of a head among the heads of its job. */
export type HeadOrder = z.infer<typeof headOrderSchema>;

/**
 * Returns whether `head` is newer than `than`, the newest head known so far. Older heads can arrive later than newer
 * ones.
 */
export function isNewer(head: HeadOrder, than: HeadOrder | null): boolean {
  if (!than) return true;
  return head.term === than.term ? head.sequence > than.sequence : head.term > than.term;
}
