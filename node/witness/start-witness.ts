import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { verifyInProcess } from '../../verify/process/verify-in-process.ts';
import { demandOf, type NodePolicy } from '../limits/policy.ts';
import type { SwarmNodes } from '../sharing/swarm-nodes.ts';
import type { BlobOrigins } from '../store/blob-origins.ts';
import { proofBytes } from './proofs.ts';
import { WITNESS_FOLDER, Witness, type WitnessDeps } from './witness.ts';

interface StartDeps extends Pick<WitnessDeps, 'network' | 'blobs' | 'pauses' | 'clock' | 'log'> {
  readonly nodes: SwarmNodes;
  readonly origins: Pick<BlobOrigins, 'has'>;
}

/** Starts the witness of a node, which verifies each new checkpoint in a new process. */
export async function startWitness(
  { home, policy }: { home: string; policy: NodePolicy },
  { nodes, origins, ...shared }: StartDeps,
): Promise<Witness> {
  const folder = join(home, WITNESS_FOLDER);
  await mkdir(folder, { recursive: true });
  // Delete the subfolders, because they hold working files that a killed node left behind. Proofs are files,
  // so they stay.
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) await rm(join(folder, entry.name), { recursive: true, force: true });
  }
  const jobs = () => nodes.all.map((node) => node.view());
  const spareBytes = async (): Promise<number> => {
    const contexts = jobs().flatMap(({ context }) => context ?? []);
    const [first, ...others] = contexts.map(({ manifest }) => manifest);
    const needed = first === undefined ? 0 : demandOf(first, contexts[0]!.options.trainers, others).disk;
    return policy.maxDiskBytes - needed - (await proofBytes(folder));
  };
  const isFrom = (digest: string, coordinator: string): boolean => origins.has(digest, coordinator);
  const witness = new Witness({ home }, { ...shared, jobs, isFrom, spareBytes, verify: verifyInProcess });
  witness.start();
  return witness;
}
