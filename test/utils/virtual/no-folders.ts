import type { CheckpointFolders } from '../../../coordinator/context.ts';

/** Checkpoint folders for swarms without a disk: writes nothing. */
export const noFolders: CheckpointFolders = {
  write: async () => {},
  recordJob: async () => {},
  empty: async () => {},
  path: (job, round) => `${job}/${round}`,
};
