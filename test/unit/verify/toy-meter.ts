import { placesInRound, readRows } from '../../../lora/data/shards/round-rows.ts';
import type { ScoreMeter } from '../../../verify/checks/scores.ts';
import { gradient } from '../coordinator/toy-swarm.ts';
import type { KeptJob } from './forged-job.ts';

/** Returns a meter that has the toy data of a job. Its losses are 0. */
export function meterOf({ blobs }: Pick<KeptJob, 'blobs'>, changes: Partial<ScoreMeter> = {}): ScoreMeter {
  return {
    gradient: async ({ job, manifest }, adapter, { positions, ...key }, { signal }) => {
      const places = placesInRound(manifest.data, { job, ...key }, positions);
      const read = async ({ digest }: { digest: string }) => blobs.get(digest)!;
      return gradient(adapter, await readRows(manifest.data, places, { read, signal }));
    },
    loss: async () => 0,
    ...changes,
  };
}
