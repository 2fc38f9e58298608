import { availableMemory } from '../../lora/train/memory/available-memory.ts';
import { fitsMemory } from '../../lora/train/memory/estimate.ts';
import type { TrainerOptions } from '../../lora/train/process/messages.ts';
import type { Manifest } from '../../protocol/manifest.ts';
import type { FileBlobs } from '../../storage/blobs.ts';
import { jobToTrain, memoryWanted } from '../trainer/job-to-train.ts';
import type { TrainingProcess } from '../trainer/training-process.ts';

/**
 * Returns the settings of a trainer process that measures scores beside the node's own trainer. It computes on the
 * processor, with half of the threads, and with the base bits of the node, whose converted weights exist already.
 * @returns an obstacle if both processes together would exceed the memory limit of the owner or the free memory
 */
export async function scoreTrainer(
  manifest: Manifest,
  { home, blobs, trainer }: { home: string; blobs: FileBlobs; trainer: TrainingProcess },
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
  const mib = (bytes: number): number => Math.ceil(bytes / 2 ** 20);
  if (!fitsMemory(loaded.memoryBytes + more, compute.memoryLimit)) {
    const obstacle = `measuring scores needs ${mib(more)} MiB beside the ${mib(loaded.memoryBytes)} MiB of training, which is more than --max-memory allows`;
    return { obstacle };
  }
  const free = availableMemory();
  if (!fitsMemory(more, free)) {
    return { obstacle: `measuring scores needs ${mib(more)} MiB of memory, and ${mib(free)} MiB are free` };
  }
  const { modelDir, cacheDir, lora, training } = job;
  return { modelDir, cacheDir, lora, training, compute };
}
