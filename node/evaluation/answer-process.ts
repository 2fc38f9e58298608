import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from '../../common/logger.ts';
import { deviceNames } from '../../lora/engines/names.ts';
import type { AnswerProgress } from '../../lora/evaluate/process/messages.ts';
import { answerInProcess } from '../../lora/evaluate/process/task-process.ts';
import type { Compute } from '../../lora/train/compute.ts';
import { availableMemory } from '../../lora/train/memory/available-memory.ts';
import { fitsMemory } from '../../lora/train/memory/estimate.ts';
import { trainersOf } from '../../lora/train/memory/trainers.ts';
import type { FileBlobs } from '../../storage/blobs.ts';
import { nodeError } from '../errors.ts';
import { evaluationBytes } from '../limits/policy.ts';
import { PULLED_FOLDER } from '../reader/own-checkpoint.ts';
import { writePeftFolder } from '../reader/peft-folder.ts';
import { jobToTrain } from '../trainer/job-to-train.ts';
import type { TrainingProcess } from '../trainer/training-process.ts';
import type { QuestionAnswerer, QuestionsToAnswer } from './answerer.ts';

export interface AnswerProcessOptions {
  readonly home: string;
  readonly compute: Compute;
}

export interface AnswerProcessDeps {
  readonly blobs: FileBlobs;
  readonly trainer: Pick<TrainingProcess, 'devicesFor'>;
  readonly log: Logger;
  /** Returns whether the process must run at the lowest priority, to leave the machine to its user. */
  readonly isPolite: () => boolean;
}

/**
 * Answers questions in a process beside the trainer, on the first device of the trainer. The process has a low priority,
 * because rounds wait for the trainer, and nothing waits for evaluations.
 */
export class AnswerProcess implements QuestionAnswerer {
  readonly #options: AnswerProcessOptions;
  readonly #deps: AnswerProcessDeps;

  constructor(options: AnswerProcessOptions, deps: AnswerProcessDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  async answer(
    { manifest, adapter, questions }: QuestionsToAnswer,
    { signal, onProgress }: { signal: AbortSignal; onProgress: (progress: AnswerProgress) => void },
  ): Promise<Uint8Array> {
    const { home, compute } = this.#options;
    const { blobs, trainer, log, isPolite } = this.#deps;
    const needed = evaluationBytes(manifest, trainersOf(compute));
    const available = availableMemory();
    if (!fitsMemory(needed, available)) {
      throw nodeError(
        'EVALUATION_MEMORY',
        `an evaluation needs ${needed} bytes of memory, but ${available} are available`,
        { needed, available },
      );
    }
    const { modelDir, cacheDir } = await jobToTrain(manifest, home, blobs);
    const devices = trainer.devicesFor(manifest.base.digest) ?? compute.devices;
    const engine = devices === 'auto' ? devices : deviceNames([devices[0]]);
    const { threads, baseBits, precision } = compute;
    const folder = join(home, PULLED_FOLDER, 'evaluated');
    try {
      await writePeftFolder(folder, blobs.path(adapter), manifest);
      return await answerInProcess(
        {
          ...{ base: modelDir, adapter: folder, questions, cacheDir, isPolite: isPolite() },
          compute: { engine, threads, baseBits, precision },
        },
        { signal, onProgress, onLog: (line) => log.debug({ line }, 'evaluation-output') },
      );
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }
}
