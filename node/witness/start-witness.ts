import { randomInt } from 'node:crypto';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { FileBlobs } from '../../storage/blobs.ts';
import { verifyInProcess } from '../../verify/process/verify-in-process.ts';
import { nodeError } from '../errors.ts';
import type { SwarmNodes } from '../jobs/swarm-nodes.ts';
import { demandOf, type JobLimits, memoryOfProcesses } from '../limits/policy.ts';
import { rowsAt } from '../phases/round-rows.ts';
import type { NodeStore } from '../store/node-store.ts';
import type { TrainingProcess } from '../trainer/training-process.ts';
import { proofBytes } from './proofs.ts';
import { ScoreTasks } from './score-tasks.ts';
import { scoreTrainer } from './score-trainer.ts';
import { WITNESS_FOLDER, Witness, type WitnessDeps } from './witness.ts';

interface StartDeps extends Pick<WitnessDeps, 'network' | 'pauses' | 'clock' | 'log'> {
  readonly blobs: FileBlobs;
  readonly trainer: TrainingProcess;
  readonly nodes: SwarmNodes;
  readonly store: Pick<NodeStore, 'origins' | 'keptMerges'>;
}

/** Starts the witness of a node, which verifies each new checkpoint in a new process. */
export async function startWitness(
  { home, policy }: { home: string; policy: JobLimits },
  { nodes, store, trainer, ...shared }: StartDeps,
): Promise<Witness> {
  const folder = join(home, WITNESS_FOLDER);
  await mkdir(folder, { recursive: true });
  // Delete the subfolders, because they hold working files that a killed node left behind. Proofs are files,
  // so they stay.
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) await rm(join(folder, entry.name), { recursive: true, force: true });
  }
  const jobs = () => nodes.all.map((node) => node.view());
  const needed = (): { disk: number; memory: number } => {
    const contexts = jobs().flatMap(({ context }) => context ?? []);
    const [first, ...others] = contexts.map(({ manifest }) => manifest);
    if (first === undefined) return { disk: 0, memory: 0 };
    const { trainers } = contexts[0]!.options;
    const { disk, memory } = demandOf(first, trainers, others);
    return { disk, memory: memory + memoryOfProcesses(policy, trainers) };
  };
  const spareBytes = async (): Promise<number> =>
    policy.maxDiskBytes - needed().disk - (await proofBytes(folder));
  // The memory of the loaded trainer processes includes activations, which `needed` does not count. So take the
  // larger of the two figures.
  const spareMemory = (): number => {
    const loaded = (policy.processBytes?.() ?? 0) + (trainer.loaded?.memoryBytes ?? 0);
    return policy.maxMemoryBytes - Math.max(needed().memory, loaded);
  };
  const isFrom = (digest: string, coordinator: string): boolean => store.origins.has(digest, coordinator);
  const keep: WitnessDeps['keep'] = (job, checked) => store.keptMerges.keep(job, checked);
  const { blobs, clock, log } = shared;
  const scores = new ScoreTasks({
    readRows: async (job, wanted, signal) => {
      const context = jobs().find((one) => one.context?.job === job)?.context;
      if (!context) throw nodeError('NO_OPEN_JOB', `the node has left the job ${job}`, { job });
      return rowsAt(context, wanted, signal);
    },
    trainerFor: (manifest, verificationBytes) =>
      scoreTrainer(manifest, { home, blobs, trainer, verificationBytes }),
    randomInt,
    clock,
    log,
  });
  const witness = new Witness(
    { home },
    { ...shared, spareBytes, spareMemory, jobs, isFrom, verify: verifyInProcess, keep, scores },
  );
  witness.start();
  return witness;
}
