import { join } from 'node:path';
import { FileBlobStore } from '../../storage/blob-store.ts';
import { verifyInProcess } from '../../verify/process/verify-in-process.ts';
import type { SwarmNodes } from '../sharing/swarm-nodes.ts';
import { WITNESS_FOLDER, Witness, type WitnessDeps } from './witness.ts';

/** Starts the witness of a node, which verifies each new checkpoint in a new process. */
export async function startWitness(
  { home }: { home: string },
  deps: Pick<WitnessDeps, 'network' | 'blobs' | 'clock' | 'log'> & { readonly nodes: SwarmNodes },
): Promise<Witness> {
  const { nodes, ...shared } = deps;
  const kept = await FileBlobStore.open({ home: join(home, WITNESS_FOLDER) }, shared);
  // A killed node may have left blobs.
  for await (const { digest } of kept.list()) await kept.delete(digest);
  const { collector } = nodes;
  const jobs = () => nodes.all.map((node) => node.view());
  const witness = new Witness({ home }, { ...shared, kept, collector, jobs, verify: verifyInProcess });
  witness.start();
  return witness;
}
