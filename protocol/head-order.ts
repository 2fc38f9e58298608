import { z } from 'zod';

/** Where a head stands among those of its job: by term, then by sequence. */
export const headOrderSchema = z.strictObject({ term: z.int().positive(), sequence: z.int().positive() });
export type HeadOrder = z.infer<typeof headOrderSchema>;

/** Nodes follow the newest head, whatever they hear or are told again. */
export function isNewer(head: HeadOrder, than: HeadOrder | null): boolean {
  if (!than) return true;
  return head.term === than.term ? head.sequence > than.sequence : head.term > than.term;
}
