import { basename } from 'node:path';
import { isSwarmError, type SwarmError } from '../../common/errors.ts';
import { writeError } from '../../common/files/durable.ts';
import { initialAdapter } from '../adapter/initial.ts';
import { adapterSize } from '../adapter/layout.ts';
import { type AdapterToWrite, writePeftFolder } from '../adapter/peft.ts';
import { replacingTemplate } from '../data/render/chat-template.ts';
import type { StoredRows } from '../data/stored-rows.ts';
import type { BaseModel } from '../models/base/base-model.ts';
import { hubOrigin } from '../models/hub/reference.ts';
import type { TrainingConfig } from '../train/config.ts';
import type { Workload } from '../train/devices/fallback.ts';
import { TrainerProcess } from '../train/process/supervisor.ts';
import type { CheckpointFolder, RunState } from './checkpoints.ts';
import { finetuneError } from './errors.ts';
import { HeldOutLoss } from './held-out-loss.ts';
import type { FinetuneListener, FinetuneResult } from './listener.ts';
import { TrainingLoop } from './loop.ts';
import type { RunSettings } from './settings/run-settings.ts';
import type { TrainSpec } from './settings/settings.ts';

/** State that all attempts of a run share. */
export interface Run {
  readonly options: { spec: TrainSpec; output: string; cacheDir: string; signal: AbortSignal };
  readonly model: BaseModel;
  readonly base: { readonly digest: string };
  /** The adapter to start from, in layout order; null for a new adapter. */
  readonly start: readonly Float32Array[] | null;
  readonly training: TrainingConfig;
  readonly settings: RunSettings;
  readonly data: StoredRows;
  readonly heldOut: StoredRows | null;
  readonly checkpoints: CheckpointFolder;
  /** Whether the checkpoints in the output belong to this run. */
  begun: boolean;
}

export interface Attempt {
  readonly load: Workload;
  /** State to continue from; null to start from the beginning. */
  readonly from: RunState | null;
  /** Returns whether another attempt follows after this error. If so, this attempt writes no adapter to the output. */
  readonly continues: (error: unknown) => boolean;
}

/** Trains with one trainer process, to the end of the run or to the first error. @throws the errors of `finetune` */
export async function runAttempt(
  run: Run,
  { load, from, continues }: Attempt,
  listener: FinetuneListener,
): Promise<FinetuneResult> {
  const { options, model, base, settings, data, heldOut, checkpoints } = run;
  const { spec, output, signal, cacheDir } = options;
  const { base: modelDir, lora } = spec;
  const training = { ...run.training, microBatch: load.microBatch };
  const trainer = await TrainerProcess.start(
    { modelDir, cacheDir, lora, training, compute: load.compute },
    { signal, onNotice: (text) => listener.onNotice?.(text) },
  );
  try {
    const { layout } = trainer;
    const origin = hubOrigin(modelDir);
    const about: Omit<AdapterToWrite, 'tensors'> = {
      layout,
      lora,
      // Only the name of a folder is written, because its whole path would tell each user of the adapter
      // about the folders of this machine.
      baseModelName: origin?.name ?? basename(modelDir),
      revision: origin?.revision ?? null,
      baseDigest: base.digest,
      chatTemplate: await replacingTemplate(modelDir, spec.data.template),
    };
    const start =
      from === null
        ? {
            adapter: run.start ?? (await initialAdapter(model, lora, spec.seed, { signal })),
            optimizer: null,
          }
        : await checkpoints.load(from.step, layout);
    const measure = heldOut && new HeldOutLoss({ trainer, data: heldOut, listener });
    const lossBefore = from ? from.lossBefore : measure && (await measure.of(start.adapter, signal));
    listener.onPlan?.({
      tokens: data.tokens,
      rows: data.rows,
      steps: training.totalSteps,
      parameters: adapterSize(layout),
      heldOutLoss: lossBefore,
    });
    if (from !== null) listener.onResumed?.(from.step);
    // Checkpoints of an earlier run are deleted only now, so that they survive if this run fails to start.
    else await checkpoints.clear();
    run.begun = true;
    const loop = new TrainingLoop(
      { settings, training, start, state: from ?? freshState(settings, lossBefore) },
      { trainer, data, heldOut: measure, checkpoints, about, listener },
    );
    try {
      await loop.run(signal);
    } catch (error) {
      const keep = async (): Promise<void> => {
        if (!(await loop.saveInterrupted()) || continues(error)) return;
        await writePeftFolder(output, { ...about, tensors: loop.adapter });
        listener.onPartial?.({
          step: loop.state.step,
          resumable: !isSwarmError(error, 'GRADIENT_NOT_FINITE'),
        });
      };
      // The first error is thrown. If saving the state fails too, that second error becomes a warning.
      await keep().catch((cause: unknown) => {
        if (!continues(error)) listener.onWarning?.(notKept(cause, { output, step: loop.state.step }));
      });
      signal.throwIfAborted();
      throw error;
    }
    const { adapter, step, heldOutLoss } = await loop.result();
    await writePeftFolder(output, { ...about, tensors: adapter });
    const { state } = loop;
    let lossAfter = heldOutLoss;
    if (lossAfter === null && measure !== null) {
      try {
        lossAfter = await measure.of(adapter, signal);
      } catch (error) {
        // Everything but the final held-out loss is computed and saved. A resumed run only has to measure this loss.
        if (!continues(error)) listener.onPartial?.({ step, resumable: true });
        throw error;
      }
    }
    return {
      base: spec.base,
      step: state.step,
      tokens: state.tokens,
      seconds: state.seconds,
      loss: state.loss,
      lossBefore,
      lossAfter,
      adapterStep: step,
      finished: state.finished!,
      stopping: { patience: spec.run.patience, minDelta: spec.run.minDelta },
    };
  } finally {
    await trainer.stop();
  }
}

function notKept(cause: unknown, { output, step }: { output: string; step: number }): SwarmError {
  const reason = writeError(cause, output);
  const code = isSwarmError(reason) ? reason.code : 'UNKNOWN';
  const message = reason instanceof Error ? reason.message : String(reason);
  return finetuneError(
    'PARTIAL_NOT_KEPT',
    `the adapter after step ${step} could not be written to ${output}: ${message}; the checkpoints there are unchanged`,
    { output, step, code },
    { cause },
  );
}

function freshState(settings: RunSettings, lossBefore: number | null): RunState {
  return {
    schemaVersion: 1,
    step: 0,
    rows: 0,
    tokens: 0,
    seconds: 0,
    loss: null,
    lossBefore,
    heldOutLoss: null,
    losses: lossBefore === null ? [] : [{ step: 0, loss: lossBefore }],
    best: null,
    waited: 0,
    finished: null,
    settings,
    digests: {},
  };
}
