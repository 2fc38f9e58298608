import type { StoredReceipt } from '../store/store.ts';

/** An update whose payload is being checked. */
export interface Checking {
  readonly author: string;
  readonly round: number;
  readonly digest: string;
  readonly envelope: Uint8Array;
  readonly evidence: Uint8Array;
  readonly receipt: Promise<StoredReceipt>;
}

/** Returns a key for the update of an author in a round. */
export function updateKey(round: number, author: string): string {
  return `${round}/${author}`;
}
