/** The parent's side of a trainer process: the methods of `Trainer`; the death of the process is an error. */

import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { SwarmError } from '../../common/errors.ts';
import type { AdapterLayout } from '../adapter/layout.ts';
import type { Row } from '../data/row.ts';
import { deviceName } from '../engines/names.ts';
import type { AdamWState } from './adamw.ts';
import type { DataParallelWorker, GradientRequest, GradientSums } from './data-parallel.ts';
import { trainError } from './errors.ts';
import type { Abort, Event, Reply, Request, TrainerOptions } from './messages.ts';
import type { RowLoss } from './step.ts';
import type { JobPosition, TrainProgress, TrainResult } from './trainer.ts';

/** An aborted trainer answers after the current micro-batch. One that has not answered by then is killed. */
const ABORT_GRACE_MS = 30_000;
/** Time that a trainer has to release its engine after `stop`. */
const STOP_GRACE_MS = 3_000;
/** Characters kept from the end of the trainer's standard error. */
const STDERR_TAIL = 4_000;

export interface SupervisorDeps {
  /** Called with each line of the trainer's standard error. */
  onLog?: (line: string) => void;
  /** Called when the way it trains has changed, with a sentence for the user. */
  onNotice?: (text: string) => void;
  signal?: AbortSignal;
}

export interface TrainOptions {
  adapter: readonly Float32Array[];
  rows: readonly Row[];
  /** Most optimiser steps to make; fewer when the rows run out. */
  steps: number;
  /** Moments to start from. @default those in the trainer's memory: zeros after a start */
  optimizer?: AdamWState | null;
  /** Progress of the job. @default the steps of the optimiser */
  position?: JobPosition | null;
  onProgress?: (progress: TrainProgress) => void;
  signal?: AbortSignal;
}

export interface TrainedAdapter extends TrainResult {
  adapter: Float32Array[];
}

interface Pending {
  resolve(reply: Reply): void;
  reject(error: SwarmError): void;
  onProgress: ((progress: TrainProgress) => void) | undefined;
}

type RequestBody = Request extends infer R ? (R extends Request ? Omit<R, 'id'> : never) : never;
type ReplyOf<T extends Reply['type']> = Extract<Reply, { type: T }>;

export class TrainerProcess implements DataParallelWorker {
  /** Engine and number of the device, for messages. */
  readonly name: string;
  readonly #child: ChildProcess;
  readonly #closed: Promise<void>;
  readonly #pending = new Map<number, Pending>();
  #requests = 0;
  #death: SwarmError | null = null;
  #stderr = '';
  #current: AdapterLayout = [];

  private constructor(name: string, deps: SupervisorDeps) {
    this.name = name;
    // The published build has .js files.
    const entry = import.meta.url.endsWith('.ts') ? './process.ts' : './process.js';
    this.#child = fork(fileURLToPath(new URL(entry, import.meta.url)), {
      serialization: 'advanced',
      // Not the parent's arguments: two processes cannot listen on the same debugger port.
      execArgv: [],
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    this.#child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-STDERR_TAIL);
      for (const line of text.split('\n')) if (line !== '') deps.onLog?.(line);
    });
    this.#child.on('message', (message: Reply | Event) => {
      if (message.type === 'notice') deps.onNotice?.(message.text);
      else this.#receive(message);
    });
    this.#closed = new Promise((resolve) => {
      this.#child.on('error', (error) => {
        this.#die(null, null, error);
        // A process that failed to start emits no 'close'.
        if (this.#child.pid === undefined) resolve();
      });
      this.#child.on('close', (code, signal) => {
        this.#die(code, signal);
        resolve();
      });
    });
  }

  /**
   * Starts a trainer process and loads the base model in it.
   * @throws SwarmError BASE_BITS, PRECISION, ENGINE_*, MODEL_*, TRAINER_DIED, TRAINER_ABORTED
   */
  static async start(options: TrainerOptions, deps: SupervisorDeps = {}): Promise<TrainerProcess> {
    const trainer = new TrainerProcess(deviceName(options.compute.devices[0]), deps);
    try {
      const ready = await trainer.#request('ready', { type: 'start', options }, deps.signal);
      trainer.#current = ready.layout;
      return trainer;
    } catch (error) {
      await trainer.kill();
      throw error;
    }
  }

  /** Names and shapes of the adapter's tensors. All lists of tensors have this order. */
  get layout(): AdapterLayout {
    return this.#current;
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  get alive(): boolean {
    return this.#death === null;
  }

  /**
   * Trains `adapter` and returns the trained one.
   * @throws SwarmError TRAINER_DIED when the process ends first, TRAINER_ABORTED on abort, and the trainer's own errors
   */
  async train({
    adapter,
    rows,
    steps,
    optimizer = null,
    position = null,
    onProgress,
    signal,
  }: TrainOptions): Promise<TrainedAdapter> {
    const body = { type: 'train', adapter, rows, steps, optimizer, position } as const;
    const { result, adapter: trained } = await this.#request('trained', body, signal, { onProgress });
    return { ...result, adapter: trained };
  }

  /** Computes gradients for a part of another trainer's step. @throws as `train` */
  gradients(
    request: GradientRequest,
    signal?: AbortSignal,
  ): { sent: Promise<void>; sums: Promise<GradientSums> } {
    const { promise: sent, resolve } = Promise.withResolvers<void>();
    const reply = this.#request('gradients', { type: 'gradients', ...request }, signal, { onSent: resolve });
    return {
      sent: Promise.race([
        sent,
        reply.then(
          () => {},
          () => {},
        ),
      ]),
      sums: reply.then(({ sums }) => sums),
    };
  }

  /** Returns the loss of every row with `adapter`. @throws as `train` */
  async evaluate(options: {
    adapter: readonly Float32Array[];
    rows: readonly Row[];
    signal?: AbortSignal;
  }): Promise<RowLoss[]> {
    const { adapter, rows, signal } = options;
    return (await this.#request('evaluated', { type: 'evaluate', adapter, rows }, signal)).losses;
  }

  /** Returns the optimiser's state. @throws as `train` */
  async snapshot(signal?: AbortSignal): Promise<AdamWState> {
    return (await this.#request('snapshot', { type: 'snapshot', adapter: false }, signal)).optimizer;
  }

  /** Returns adapter and optimiser state after the last complete step, also of an aborted training. @throws as `train` */
  async state(signal?: AbortSignal): Promise<{ adapter: Float32Array[]; optimizer: AdamWState }> {
    const reply = await this.#request('snapshot', { type: 'snapshot', adapter: true }, signal);
    return { adapter: reply.adapter!, optimizer: reply.optimizer };
  }

  /**
   * Aborts all requests, releases the engine and ends the process: by force after STOP_GRACE_MS. Pending requests reject
   * with TRAINER_ABORTED or TRAINER_DIED. Idempotent.
   */
  async stop(): Promise<void> {
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_GRACE_MS);
    for (const id of this.#pending.keys()) this.#post({ type: 'abort', id });
    await this.#request('stopped', { type: 'stop' }).catch(() => {});
    await this.#closed;
    clearTimeout(timer);
  }

  /** Kills the process. Pending requests reject with TRAINER_DIED. Idempotent. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#closed;
  }

  async #request<T extends Reply['type']>(
    type: T,
    body: RequestBody,
    signal?: AbortSignal,
    { onProgress, onSent }: { onProgress?: (progress: TrainProgress) => void; onSent?: () => void } = {},
  ): Promise<ReplyOf<T>> {
    if (this.#death !== null) throw this.#death;
    if (signal?.aborted) throw aborted(body.type);
    const id = ++this.#requests;
    let grace: NodeJS.Timeout | undefined;
    const abort = () => {
      this.#post({ type: 'abort', id });
      grace = setTimeout(() => this.#child.kill('SIGKILL'), ABORT_GRACE_MS);
    };
    signal?.addEventListener('abort', abort, { once: true });
    try {
      const reply = await new Promise<Reply>((resolve, reject) => {
        this.#pending.set(id, { resolve, reject, onProgress });
        this.#post({ ...body, id } as Request, onSent);
      });
      if (reply.type === 'failed') throw SwarmError.fromJSON(reply.error);
      if (reply.type !== type) {
        throw trainError('TRAINER_PROTOCOL', `the trainer answered ${reply.type} to ${body.type}`, {});
      }
      return reply as ReplyOf<T>;
    } finally {
      clearTimeout(grace);
      signal?.removeEventListener('abort', abort);
      this.#pending.delete(id);
    }
  }

  #post(message: Request | Abort, onSent: () => void = () => {}): void {
    // When the channel is closed, 'close' reports why.
    if (this.#child.connected) this.#child.send(message, () => onSent());
  }

  #receive(message: Reply | Exclude<Event, { type: 'notice' }>): void {
    const pending = this.#pending.get(message.id);
    if (message.type === 'progress') pending?.onProgress?.(message.progress);
    else pending?.resolve(message);
  }

  #die(code: number | null, signal: NodeJS.Signals | null, cause?: Error): void {
    if (this.#death !== null) return;
    const how = signal !== null ? `was killed by ${signal}` : `exited with code ${code}`;
    const advice = signal === 'SIGKILL' ? ' (out of memory?)' : '';
    this.#death = trainError(
      'TRAINER_DIED',
      `the trainer process ${how}${advice}`,
      { code, signal, stderr: this.#stderr },
      { cause },
    );
    for (const { reject } of this.#pending.values()) reject(this.#death);
  }
}

function aborted(request: string): SwarmError {
  return trainError('TRAINER_ABORTED', `${request} was aborted before it began`, { request });
}
