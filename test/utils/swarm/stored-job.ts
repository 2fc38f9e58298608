import type { StoredJob } from '../../../coordinator/store/store.ts';

/** A job as a coordinator stores it at its creation: open to all, not paused, not queued. */
export const STORED_JOB: StoredJob = {
  job: 'aa'.repeat(32),
  name: 'toy',
  content: 'content',
  manifest: Uint8Array.of(1, 2, 3),
  layout: [{ name: 'a', shape: [1, 2], group: 'A' }],
  term: 1,
  admission: { kind: 'open' },
  token: null,
  baseLoss: 4.5,
  ending: null,
  pauseCause: null,
  rollBackTo: null,
  rollBackReason: null,
  priority: 0,
  afterJob: null,
  createdAt: 7,
};
