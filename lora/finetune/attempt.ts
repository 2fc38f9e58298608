import { writeError } from '../../common/durable.ts';
import { isSwarmError, type SwarmError } from '../../common/errors.ts';
import { initialAdapter } from '../adapter/initial.ts';
import { adapterSize } from '../adapter/layout.ts';
import { type AdapterToWrite, writePeftFolder } from '../adapter/peft.ts';
import type { StoredRows } from '../data/stored-rows.ts';
import type { BaseModel } from '../models/base-model.ts';
import { hubOrigin } from '../models/hub/reference.ts';
import type { TrainingConfig } from '../train/config.ts';
import type { Workload } from '../train/fallback.ts';
import { TrainerProcess } from '../train/supervisor.ts';
import type { CheckpointFolder, RunState } from './checkpoints.ts';
import { finetuneError } from './errors.ts';
import type { TrainListener, TrainOutcome, TrainRunOptions } from './finetune.ts';
import { HeldOut, TrainingLoop } from './loop.ts';
import type { RunSettings } from './settings.ts';

/** A run, whatever trainer processes it takes. */
export interface Run {
  readonly options: TrainRunOptions;
  readonly model: BaseModel;
  readonly base: { readonly digest: string };
  readonly training: TrainingConfig;
  readonly settings: RunSettings;
  readonly data: StoredRows;
  readonly heldOut: StoredRows | null;
  readonly checkpoints: CheckpointFolder;
  /** Whether the checkpoints in the output are this run's. */
  begun: boolean;
}

export interface Attempt {
  readonly load: Workload;
  /** Where it goes on; null: at the beginning. */
  readonly before: RunState | null;
  /** Whether another attempt follows such an error: then nobody need know what this one leaves. */
  readonly goesOn: (error: unknown) => boolean;
}

/** A run with one trainer process, to its end or the first fault. @throws as trainAlone */
export async function trainOnce(
  run: Run,
  { load, before, goesOn }: Attempt,
  listener: TrainListener,
): Promise<TrainOutcome> {
  const { options, model, base, settings, data, heldOut, checkpoints } = run;
  const { spec, output, signal, cacheDir } = options;
  const { base: modelDir, lora } = spec;
  const training = { ...run.training, microBatch: load.microBatch };
  const trainer = await TrainerProcess.start(
    { modelDir, cacheDir, lora, training, compute: load.compute },
    { signal, onNotice: (text) => listener.onNotice(text) },
  );
  try {
    const { layout } = trainer;
    const origin = hubOrigin(modelDir);
    const about: Omit<AdapterToWrite, 'tensors'> = {
      layout,
      lora,
      baseModelName: origin?.name ?? modelDir,
      revision: origin?.revision ?? null,
      baseDigest: base.digest,
    };
    const start =
      before === null
        ? { adapter: await initialAdapter(model, lora, spec.seed, { signal }), optimizer: null }
        : await checkpoints.load(before.step, layout);
    const measure = heldOut && new HeldOut({ trainer, data: heldOut, listener });
    const lossBefore = before ? before.lossBefore : measure && (await measure.loss(start.adapter, signal));
    listener.onPlan({
      tokens: data.tokens,
      rows: data.rows,
      steps: training.totalSteps,
      parameters: adapterSize(layout),
      heldOutLoss: lossBefore,
    });
    if (before !== null) listener.onResumed(before.step);
    // Not before everything has turned out to be there.
    else await checkpoints.clear();
    run.begun = true;
    const loop = new TrainingLoop(
      { settings, training, start, state: before ?? freshState(settings, lossBefore) },
      { trainer, data, heldOut: measure, checkpoints, about, listener },
    );
    try {
      await loop.toTheEnd(signal);
    } catch (error) {
      const keep = async (): Promise<void> => {
        if (!(await loop.saveAsItIs()) || goesOn(error)) return;
        await writePeftFolder(output, { ...about, tensors: loop.adapter });
        listener.onPartial({ step: loop.state.step, resumable: !isSwarmError(error, 'GRADIENT_NOT_FINITE') });
      };
      // The first error is what went wrong; that nothing could be kept of it comes on top.
      await keep().catch((cause: unknown) => {
        if (!isSameFault(cause, error)) listener.onWarning(notKept(cause, output));
      });
      signal.throwIfAborted();
      throw error;
    }
    const { adapter, step, heldOutLoss } = await loop.result();
    await writePeftFolder(output, { ...about, tensors: adapter });
    const { state } = loop;
    return {
      step: state.step,
      tokens: state.tokens,
      seconds: state.seconds,
      loss: state.loss,
      lossBefore,
      lossAfter: heldOutLoss ?? (measure && (await measure.loss(adapter, signal))),
      adapterStep: step,
      finished: state.finished!,
    };
  } finally {
    await trainer.stop();
  }
}

/** A trainer that died has nothing more to give, and its last checkpoint stays; a disk that was full is full. */
function isSameFault(cause: unknown, error: unknown): boolean {
  return isSwarmError(cause) && isSwarmError(error, cause.code);
}

function notKept(cause: unknown, output: string): SwarmError {
  const reason = writeError(cause, output);
  const code = isSwarmError(reason) ? reason.code : 'UNKNOWN';
  const message = reason instanceof Error ? reason.message : String(reason);
  return finetuneError(
    'PARTIAL_NOT_KEPT',
    `the adapter as it is now is not in ${output}: ${message}; the checkpoints there stay as they are`,
    { output, code },
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
    best: null,
    waited: 0,
    finished: null,
    settings,
    digests: {},
  };
}
