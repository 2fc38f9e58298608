import { appendFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { writeError } from '../../common/files/durable.ts';
import { makeFolder } from '../../common/files/folders.ts';
import type { Clock } from '../../common/time/clock.ts';
import {
  type FinetuneListener,
  type FinetuneResult,
  isSwarmError,
  type RunEvaluation,
  type RunPlan,
  type RunStep,
  type SwarmError,
} from '../../index.ts';
import {
  eventFileName,
  type Scalars,
  scalarRecord,
  startRecord,
  versionRecord,
} from '../../monitor/tracking/tensorboard.ts';

export interface RunCurveDeps {
  readonly clock: Clock;
  onFailure(error: SwarmError): void;
}

/**
 * The curves of a training run, in an event file of TensorBoard that grows with each step. Each start of the run adds a
 * file to its folder. A file first tells TensorBoard to drop the steps that are made again.
 */
export class RunCurve implements Pick<FinetuneListener, 'onPlan' | 'onResumed' | 'onStep' | 'onEvaluated'> {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #onFailure: (error: SwarmError) => void;
  #failed = false;
  /** The first step of this start, and the held-out loss before it. Null if it is written. */
  #start: { step: number; heldOutLoss: number | null } | null = { step: 0, heldOutLoss: null };
  /** The newest step whose held-out loss is written. The loss of an earlier step would make the curve go back. */
  #evaluated = -1;

  /**
   * @param folder the folder that is given to TensorBoard. The run gets a folder of its own in it, with the name of the
   *   output folder
   * @param deps `onFailure`: called once if the file cannot be written. Nothing more is written after that
   * @throws SwarmError FOLDER_UNUSABLE
   */
  static async open(folder: string, output: string, deps: RunCurveDeps): Promise<RunCurve> {
    const run = join(folder, basename(output));
    await makeFolder(run);
    return new RunCurve(join(run, eventFileName(deps.clock.now())), deps);
  }

  private constructor(path: string, { clock, onFailure }: RunCurveDeps) {
    this.#path = path;
    this.#clock = clock;
    this.#onFailure = onFailure;
  }

  onPlan({ heldOutLoss }: RunPlan): void {
    this.#start = { step: 0, heldOutLoss };
  }

  onResumed(step: number): void {
    this.#start = { step: step + 1, heldOutLoss: null };
    // Earlier starts of the run have written the losses of earlier steps. That of this step may not be measured yet.
    this.#evaluated = step - 1;
  }

  onStep({ step, loss, learningRate, gradientNorm, epoch, tokens, tokensPerSecond }: RunStep): void {
    this.#add(step, {
      'loss/train': loss,
      'speed/tokens_per_second': tokensPerSecond,
      'run/learning_rate': learningRate,
      'run/gradient_norm': gradientNorm,
      'run/epoch': epoch,
      'run/tokens': tokens,
    });
  }

  onEvaluated({ step, heldOutLoss }: Pick<RunEvaluation, 'step' | 'heldOutLoss'>): void {
    this.#add(step, { 'loss/held_out': heldOutLoss });
    this.#evaluated = step;
  }

  /** Adds the loss of the written adapter, which a run without measurements on the way has only now. */
  onTrained({ adapterStep, lossAfter }: Pick<FinetuneResult, 'adapterStep' | 'lossAfter'>): void {
    if (lossAfter !== null && adapterStep > this.#evaluated) {
      this.onEvaluated({ step: adapterStep, heldOutLoss: lossAfter });
    }
  }

  #add(step: number, values: Scalars['values']): void {
    if (this.#failed) return;
    const at = this.#clock.now();
    const records = [scalarRecord({ step, at, values })];
    if (this.#start !== null) {
      const { step: first, heldOutLoss } = this.#start;
      if (heldOutLoss !== null) {
        records.unshift(scalarRecord({ step: 0, at, values: { 'loss/held_out': heldOutLoss } }));
      }
      records.unshift(versionRecord(at), startRecord(at, first));
      this.#start = null;
    }
    try {
      appendFileSync(this.#path, Buffer.concat(records));
    } catch (cause) {
      const error = writeError(cause, this.#path);
      if (!isSwarmError(error)) throw error;
      this.#failed = true;
      this.#onFailure(error);
    }
  }
}
