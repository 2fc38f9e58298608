import { availableMemory } from '../../lora/train/memory/available-memory.ts';
import { fitsMemory } from '../../lora/train/memory/estimate.ts';
import type { TrainerOptions } from '../../lora/train/process/messages.ts';
import type { Manifest } from '../../protocol/job/manifest.ts';
import type { FileBlobs } from '../../storage/blobs.ts';
import { jobToTrain, memoryWanted } from '../trainer/job-to-train.ts';
import type { TrainingProcess } from '../trainer/training-process.ts';

/**
 * Returns the settings of a trainer process that measures scores beside the node's own trainer. It computes on the
 * processor, with half of the threads, and with the base bits of the node, whose converted weights exist already.
 * @param deps.verificationBytes memory in bytes of the verification, whose process lives as long as the measurement
 * @returns an obstacle if all three processes together would exceed the memory limit of the owner or the free memory
 */
export async function scoreTrainer(
  manifest: Manifest,
  {
    home,
    blobs,
    trainer,
    verificationBytes,
  }: { home: string; blobs: FileBlobs; trainer: TrainingProcess; verificationBytes: number },
): Promise<TrainerOptions | { obstacle: string }> {
  const { loaded } = trainer;
  if (loaded === null || !loaded.bases.includes(manifest.base.digest)) {
    return { obstacle: 'the trainer of this node has not loaded the base' };
  }
  const job = await jobToTrain(manifest, home, blobs);
  const compute = {
    ...loaded.compute,
    devices: [{ engine: 'onnx-cpu' }] as const,
    threads: Math.max(1, Math.floor(loaded.compute.threads / 2)),
    precision: 'float32' as const,
    checkpointing: true,
  };
  const { total, weights } = await memoryWanted(job, compute);
  // At 32 bits, both processes map the same file of weights, so the weights take memory only once.
  const more = compute.baseBits === 32 ? total - weights : total;
  const obstacle = memoryObstacle({
    wanted: verificationBytes + more,
    loaded: loaded.memoryBytes,
    limit: compute.memoryLimit,
    free: availableMemory(),
  });
  if (obstacle !== null) return { obstacle };
  const { modelDir, cacheDir, lora, training } = job;
  return { modelDir, cacheDir, lora, training, compute };
}

/**
 * Returns why a measurement and its verification do not fit into the memory; null if they fit.
 * @param memory.wanted bytes that the verification and the measurement need together
 * @param memory.loaded bytes that the training takes
 * @param memory.limit the limit of the owner in bytes
 * @param memory.free bytes that the machine has free
 */
export function memoryObstacle({
  wanted,
  loaded,
  limit,
  free,
}: {
  wanted: number;
  loaded: number;
  limit: number;
  free: number;
}): string | null {
  const mib = (bytes: number): number => Math.ceil(bytes / 2 ** 20);
  const needs = `measuring scores and the verification need ${mib(wanted)} MiB`;
  if (!fitsMemory(loaded + wanted, limit)) {
    return `${needs} beside the ${mib(loaded)} MiB of training, which is more than --max-memory allows`;
  }
  return fitsMemory(wanted, free) ? null : `${needs}, and ${mib(free)} MiB are free`;
}
