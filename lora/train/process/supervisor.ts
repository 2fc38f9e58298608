/** The parent's side of a trainer process. It has the methods of `Trainer`, which fail if the process dies. */

import { constants, setPriority } from 'node:os';
import { messageOf, type SwarmError } from '../../../common/errors.ts';
import type { CallOptions, ProgressOf } from '../../../common/workers/calls.ts';
import { ChildCalls, type ChildEnd } from '../../../common/workers/child-process.ts';
import { entryOf } from '../../../common/workers/entry.ts';
import type { AdapterLayout } from '../../adapter/layout.ts';
import type { Row } from '../../data/row.ts';
import { graphProcessEnvironment, TRAINER_FLAGS } from '../../engines/allocator.ts';
import { deviceName } from '../../engines/names.ts';
import type { DataParallelWorker, GradientRequest, GradientSums } from '../data-parallel.ts';
import { trainError } from '../errors.ts';
import type { AdamWState } from '../optimizer/adamw.ts';
import type { RowLoss } from '../step.ts';
import type { JobPosition, PassOptions, TrainProgress, TrainResult } from '../trainer.ts';
import type {
  JobOfTrainer,
  ProcessProgress,
  ProcessUse,
  TrainedPart,
  TrainerMethods,
  TrainerOptions,
} from './messages.ts';

/** Time in milliseconds after which an aborted trainer is killed. It normally answers after the current micro-batch. */
const ABORT_GRACE_MS = 30_000;
/** Time in milliseconds for a trainer to release its engine after `stop`. */
const STOP_GRACE_MS = 3_000;
/** Number of characters kept from the end of the trainer's standard error. */
const STDERR_TAIL = 4_000;

export interface SupervisorDeps {
  /** Called with each line of the trainer's standard error. */
  onLog?: (line: string) => void;
  /** Called with a sentence for the user when one of several devices has failed, and training continues without it. */
  onNotice?: (text: string) => void;
  signal?: AbortSignal;
  /** Whether the process gets the lowest priority, so that it does not disturb other programs. @default false */
  isPolite?: boolean;
}

export interface TrainOptions {
  adapter: readonly Float32Array[];
  rows: readonly Row[];
  /** Maximum number of optimiser steps to make. The trainer makes fewer if the rows run out. */
  steps: number;
  /** AdamW's moments to start from. @default the moments in the trainer's memory, which are zeros after its start */
  optimizer?: AdamWState | null;
  /** Position of these steps in the job. @default the number of steps that the optimiser has made so far */
  position?: JobPosition | null;
  onProgress?: (progress: TrainProgress) => void;
  signal?: AbortSignal;
}

/** A request for losses or gradients of an adapter on rows. */
interface PassRequest extends PassOptions {
  adapter: readonly Float32Array[];
  rows: readonly Row[];
}

export interface TrainedAdapter extends TrainResult {
  adapter: Float32Array[];
}

export class TrainerProcess implements DataParallelWorker {
  /** Engine and number of the device, for messages. */
  readonly name: string;
  readonly #child: ChildCalls<TrainerMethods>;
  #alive = true;
  #layout: AdapterLayout = [];
  #use: ProcessUse | null = null;

  private constructor(name: string, { onLog, onNotice, isPolite = false }: SupervisorDeps) {
    this.name = name;
    this.#child = new ChildCalls(entryOf(import.meta, './process'), {
      env: graphProcessEnvironment(),
      execArgv: TRAINER_FLAGS,
      ...(onLog && { onLog }),
      ...(onNotice && { onNotice }),
      ended: (end) => {
        this.#alive = false;
        return died(end);
      },
    });
    const { pid } = this.#child.process;
    if (isPolite && pid !== undefined) lowerPriority(pid, onLog);
  }

  /**
   * Starts a trainer process and loads the base model in it.
   * @throws SwarmError BASE_BITS, PRECISION, ENGINE_*, MODEL_*, TRAINER_DIED, TRAINER_ABORTED
   */
  static async start(options: TrainerOptions, deps: SupervisorDeps = {}): Promise<TrainerProcess> {
    const trainer = new TrainerProcess(deviceName(options.compute.devices[0]), deps);
    try {
      trainer.#layout = await trainer.#call('start', options, { signal: deps.signal });
      return trainer;
    } catch (error) {
      await trainer.kill();
      throw error;
    }
  }

  /**
   * Switches to another job on the base that the process has loaded. Later requests belong to that job. The process
   * keeps its compiled graphs if the job can use them, and otherwise compiles new graphs at the next round. Waits until
   * earlier requests have been answered.
   * @throws SwarmError TRAINER_DIED, and LORA_* if the job's settings do not fit the base
   */
  async turnTo(job: JobOfTrainer): Promise<void> {
    this.#layout = await this.#call('turnTo', job, {});
  }

  /** Names and shapes of the adapter's tensors. All lists of tensors have this order. */
  get layout(): AdapterLayout {
    return this.#layout;
  }

  get pid(): number | undefined {
    return this.#child.process.pid;
  }

  /** Processor time and memory of the process when it reported its newest step; null before the first step. */
  get use(): ProcessUse | null {
    return this.#use;
  }

  get alive(): boolean {
    return this.#alive;
  }

  /**
   * Trains `adapter` and returns the trained adapter.
   * @throws SwarmError TRAINER_DIED when the process ends first, TRAINER_ABORTED on abort, and the trainer's own errors
   */
  train({
    adapter,
    rows,
    steps,
    optimizer = null,
    position = null,
    onProgress,
    signal,
  }: TrainOptions): Promise<TrainedAdapter> {
    const request = { adapter, rows, steps, optimizer, position };
    const report = (progress: ProcessProgress): void => {
      this.#use = progress.use;
      onProgress?.(progress);
    };
    return this.#call('train', request, { onProgress: report, signal });
  }

  /**
   * Trains `adapter` until the signal aborts. Returns the state after the last complete step.
   * @throws the errors of `train`; TRAINER_ABORTED if the signal aborts before the first step has begun
   */
  trainPart({
    signal,
    ...request
  }: TrainerMethods['trainPart']['request'] & { signal: AbortSignal }): Promise<TrainedPart> {
    return this.#call('trainPart', request, { signal });
  }

  /** Computes gradients for a part of another trainer's step. @throws the errors of `train` */
  gradients(
    request: GradientRequest,
    signal?: AbortSignal,
  ): { sent: Promise<void>; sums: Promise<GradientSums> } {
    const { promise: sent, resolve } = Promise.withResolvers<void>();
    const sums = this.#call('gradients', request, { signal, onSent: resolve });
    const settled = sums.then(
      () => {},
      () => {},
    );
    return { sent: Promise.race([sent, settled]), sums };
  }

  /** Returns the loss of every row with `adapter`. @throws the errors of `train` */
  evaluate({ signal, onProgress, ...request }: PassRequest): Promise<RowLoss[]> {
    return this.#call('evaluate', request, { signal, onProgress });
  }

  /**
   * Returns the gradient of the mean loss over rows at `adapter`, as `Trainer.lossGradient` does.
   * @throws the errors of `train`
   */
  lossGradient({ signal, onProgress, ...request }: PassRequest): Promise<Float32Array[]> {
    return this.#call('lossGradient', request, { signal, onProgress });
  }

  /** Pauses `train` before its next step, or resumes it. Aborts and other requests are still served. */
  pause(isPaused: boolean): void {
    this.#child.pause(isPaused);
  }

  /** Returns the optimiser's state. @throws the errors of `train` */
  async snapshot(signal?: AbortSignal): Promise<AdamWState> {
    return (await this.#call('snapshot', { adapter: false }, { signal })).optimizer;
  }

  /**
   * Returns adapter and optimiser state after the last complete step, even if training was aborted.
   * @throws the errors of `train`
   */
  async state(signal?: AbortSignal): Promise<{ adapter: Float32Array[]; optimizer: AdamWState }> {
    const reply = await this.#call('snapshot', { adapter: true }, { signal });
    return { adapter: reply.adapter!, optimizer: reply.optimizer };
  }

  /**
   * Aborts all requests, releases the engine and ends the process, by force after STOP_GRACE_MS. Pending requests
   * reject with TRAINER_ABORTED or TRAINER_DIED. May be called twice.
   */
  async stop(): Promise<void> {
    const timer = setTimeout(() => this.#child.process.kill('SIGKILL'), STOP_GRACE_MS);
    this.#child.abortAll();
    await this.#child.call('stop', null).catch(() => {});
    await this.#child.closed;
    clearTimeout(timer);
  }

  /** Kills the process. Pending requests reject with TRAINER_DIED. May be called twice. */
  kill(): Promise<void> {
    return this.#child.kill();
  }

  async #call<N extends keyof TrainerMethods>(
    method: N,
    request: TrainerMethods[N]['request'],
    options: CallOptions<ProgressOf<TrainerMethods[N]>>,
  ): Promise<TrainerMethods[N]['reply']> {
    const { signal } = options;
    if (signal?.aborted && this.#alive) {
      throw trainError('TRAINER_ABORTED', `${method} was aborted before it began`, { request: method });
    }
    let grace: NodeJS.Timeout | undefined;
    const onAbort = (): void => {
      grace = setTimeout(() => this.#child.process.kill('SIGKILL'), ABORT_GRACE_MS);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      return await this.#child.call(method, request, options);
    } finally {
      clearTimeout(grace);
      signal?.removeEventListener('abort', onAbort);
    }
  }
}

/** Sets the lowest priority. Threads and processes that the process starts later inherit it. */
function lowerPriority(pid: number, onLog: SupervisorDeps['onLog']): void {
  try {
    setPriority(pid, constants.priority.PRIORITY_LOW);
  } catch (error) {
    // The process may have ended already, or the system may not allow the change. Training also works at the
    // normal priority.
    onLog?.(`the priority stays as it is: ${messageOf(error)}`);
  }
}

function died({ code, signal, stderr, cause }: ChildEnd): SwarmError {
  const how = signal !== null ? `was killed by ${signal}` : `exited with code ${code}`;
  const advice = signal === 'SIGKILL' ? ' (out of memory?)' : '';
  const values = { code, signal, stderr: stderr.slice(-STDERR_TAIL) };
  return trainError('TRAINER_DIED', `the trainer process ${how}${advice}`, values, { cause });
}
