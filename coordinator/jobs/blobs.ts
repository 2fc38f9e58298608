import type { Manifest } from '../../protocol/manifest.ts';

/** Digests of what a job needs as long as it is kept: its base and its data. Adapters belong to their checkpoints. */
export function jobBlobs({ base, data }: Manifest): string[] {
  return [...base.files, ...data.shards].map(({ digest }) => digest);
}
