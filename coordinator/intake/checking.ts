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

/** Returns the key of a round and an author, under which there is at most one update. */
export function updateKey(round: number, author: string): string {
  return `${round}/${author}`;
}
