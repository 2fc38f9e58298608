/**
 * The settings with which a trainer process works on a job: the settings in the job's manifest, and the
 * settings that depend on the machine.
 */
import { join } from 'node:path';
import type { Logger } from '../../common/logger.ts';
import { countOf, formatBytes } from '../../common/text.ts';
import { adapterLayout } from '../../lora/adapter/layout.ts';
import { layOutBase } from '../../lora/models/base/base-folder.ts';
import { type BaseModel, openBase } from '../../lora/models/base/base-model.ts';
import type { Compute, ComputeOnDevices, ResolvedCompute } from '../../lora/train/compute.ts';
import { jobTraining, type TrainingConfig } from '../../lora/train/config.ts';
import { resolveDevices, softwareReason } from '../../lora/train/devices/choose.ts';
import { PROCESSOR_FALLBACK } from '../../lora/train/devices/fallback.ts';
import { shareBatch, shareLine } from '../../lora/train/devices/shared-batch.ts';
import { checkpointingLine, decideCheckpointing } from '../../lora/train/memory/checkpointing.ts';
import { estimateTraining, fitsMemory, type MemoryEstimate } from '../../lora/train/memory/estimate.ts';
import { memoryOfTrainers, usesProcessor } from '../../lora/train/memory/trainers.ts';
import type { TrainerOptions } from '../../lora/train/process/messages.ts';
import { encodeCbor, sha256 } from '../../protocol/cbor.ts';
import type { Manifest } from '../../protocol/job/manifest.ts';
import type { FileBlobs } from '../../storage/blobs.ts';
import { lostBlob } from '../../storage/lost-blobs.ts';

/** Settings of a job that follow from its manifest. */
export interface JobToTrain extends Pick<TrainerOptions, 'modelDir' | 'cacheDir' | 'lora' | 'training'> {
  /** Digest of all settings of this object except `base`. */
  readonly purpose: string;
  /** Digest of the base. */
  readonly base: string;
}

/**
 * Makes the folder of a job's base in the node's home, and returns the settings of the job.
 * @throws SwarmError BASE_DIGEST
 */
export async function jobToTrain(manifest: Manifest, home: string, blobs: FileBlobs): Promise<JobToTrain> {
  const { base, lora } = manifest;
  const pathOf = (digest: string): string => blobs.path(digest);
  const modelDir = await layOutBase({ home, base, pathOf }).catch(async (error: unknown) => {
    // Delete a damaged file, so that the next attempt fetches it again.
    const digest = lostBlob(error);
    if (digest !== null) await blobs.delete(digest);
    throw error;
  });
  const settings = { modelDir, cacheDir: join(home, 'cache'), lora, training: jobTraining(manifest) };
  return { ...settings, purpose: sha256(encodeCbor(settings)), base: base.digest };
}

interface DeviceChoice {
  readonly home: string;
  /** Folder of the base. */
  readonly modelDir: string;
  /** The requested settings. */
  readonly compute: Compute;
  readonly now: number;
  readonly signal: AbortSignal;
}

/** The devices for a base, and the reason for the choice. */
export interface ChosenDevices {
  readonly compute: ComputeOnDevices;
  readonly reason: string;
}

/** Chooses the devices for a base. Logs the reason for the choice. */
export async function chooseDevices(
  { home, modelDir, compute, now, signal }: DeviceChoice,
  log: Logger,
): Promise<ChosenDevices> {
  const model = await openBase(modelDir);
  const resolved = await resolveDevices(compute, { model, recordDir: join(home, 'engines'), now, signal });
  const reason = resolved.reason ?? (await namedReason(resolved.compute, signal));
  log.info({ engine: resolved.compute.devices[0].engine, reason }, 'engine-chosen');
  return { compute: resolved.compute, reason };
}

async function namedReason(compute: ComputeOnDevices, signal: AbortSignal): Promise<string> {
  const software = await softwareReason(compute, { signal });
  return ['set by the user', ...(software === null ? [] : [software])].join('; ');
}

/** Settings of a job that depend on the machine. */
export interface FittedJob {
  /** Settings of training from the manifest. Only the micro-batch may be smaller than in the manifest. */
  readonly training: TrainingConfig;
  /** Micro-batch after a fallback to the processor. */
  readonly processorRows: number;
  readonly checkpointing: boolean;
  /** One sentence for people about each setting that was chosen automatically. */
  readonly notes: readonly string[];
}

interface Machine {
  /** The compute settings that the user asked for, on the chosen devices. */
  readonly compute: ComputeOnDevices;
  /** Bytes of memory that the trainer process may take, including its base. */
  readonly available: number;
}

/**
 * Chooses micro-batch and gradient checkpointing of a job. By the estimate, which includes the activations, training then
 * stays within the memory limit of the owner, unless it exceeds the limit even with one row at a time.
 * @throws SwarmError LORA_* if the job does not fit its base
 */
export async function fitJob(
  { modelDir, lora, training }: JobToTrain,
  { compute, available }: Machine,
  log: Logger,
): Promise<FittedJob> {
  const notes: string[] = [];
  const report = (event: string, line: string, level: 'info' | 'warn' = 'info'): void => {
    log[level]({ reason: line }, event);
    notes.push(line);
  };
  const { microBatch, reason: shared } = shareBatch(training, compute.devices.length);
  const model = await openBase(modelDir);
  adapterLayout(model, lora);
  const needed = (rows: number, resolved: ResolvedCompute): number =>
    memoryOf(model, { lora, training: { ...training, microBatch: rows } }, resolved).total;
  const decided = decideCheckpointing(compute, {
    available,
    needs: (resolved) => needed(microBatch, resolved),
  });
  if (decided.reason !== null) report('checkpointing-chosen', checkpointingLine(decided.reason));
  // The memory of a GPU is not known, so the limit is for the processor alone.
  const fits = (rows: number, resolved: ResolvedCompute): boolean =>
    !usesProcessor(resolved) || fitsMemory(needed(rows, resolved), compute.memoryLimit);
  const fitting = (most: number, resolved: ResolvedCompute): number => {
    let rows = most;
    while (rows > 1 && !fits(rows, resolved)) rows = Math.floor(rows / 2);
    return rows;
  };
  const rows = fitting(microBatch, decided.compute);
  const limit = formatBytes(compute.memoryLimit);
  if (!fits(rows, decided.compute)) {
    const total = formatBytes(needed(rows, decided.compute));
    const text = `training needs about ${total} of memory and a quarter more as a reserve, even with ${countOf(rows, 'row')} at a time, but this node lends it ${limit}`;
    const fewerBits = compute.baseBits === 4 ? '' : ', pass --base-bits 4';
    // The screen shows a warning whole, and cuts the notes about the engine.
    report('memory-above-limit', `${text}; raise --max-memory${fewerBits}, or leave the job`, 'warn');
  } else if (rows < microBatch) {
    const reason = `${rows} of the ${training.batchSize} rows of a batch, because this node lends ${limit} of memory to training`;
    report('micro-batch-lowered', shareLine(reason));
  } else if (shared !== null) report('batch-shared', shareLine(shared));
  const onProcessor = { ...decided.compute, ...PROCESSOR_FALLBACK };
  return {
    training: { ...training, microBatch: rows },
    processorRows: fitting(training.microBatch, onProcessor),
    checkpointing: decided.compute.checkpointing,
    notes,
  };
}

/**
 * Estimates the memory of all trainer processes of a job. If gradient checkpointing is `auto`, the estimate
 * is for a machine with enough memory, where `auto` turns gradient checkpointing on only with 4 base bits.
 * @throws SwarmError LORA_* if the job does not fit its base
 */
export async function memoryWanted(
  { modelDir, lora, training }: JobToTrain,
  compute: ComputeOnDevices,
): Promise<MemoryEstimate> {
  const { microBatch } = shareBatch(training, compute.devices.length);
  const { checkpointing: asked, baseBits } = compute;
  const checkpointing = asked === 'auto' ? baseBits === 4 : asked;
  const model = await openBase(modelDir);
  return memoryOf(model, { lora, training: { ...training, microBatch } }, { ...compute, checkpointing });
}

function memoryOf(
  model: BaseModel,
  job: Pick<JobToTrain, 'lora' | 'training'>,
  compute: ResolvedCompute,
): MemoryEstimate {
  return memoryOfTrainers(estimateTraining(model, { ...job, compute }).memory, compute);
}
