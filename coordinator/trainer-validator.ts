import { join } from 'node:path';
import type { Row } from '../lora/data/packing.ts';
import type { EngineChoice } from '../lora/engines/names.ts';
import { layOutBase } from '../lora/models/base-folder.ts';
import { openModel } from '../lora/models/model.ts';
import { chooseEngine } from '../lora/train/choose.ts';
import { trainingConfigSchema } from '../lora/train/config.ts';
import type { TrainerOptions } from '../lora/train/messages.ts';
import { TrainerProcess } from '../lora/train/supervisor.ts';
import type { FileBlobs } from '../net/network.ts';
import type { Clock } from '../protocol/clock.ts';
import { SwarmError } from '../protocol/errors.ts';
import type { Logger } from '../protocol/logger.ts';
import type { Manifest } from '../protocol/manifest.ts';
import type { RowLoss } from './gate.ts';
import { decodeHeldOut, gateRows } from './held-out.ts';
import type { ValidationJob, Validator } from './validator.ts';

export interface TrainerValidatorOptions {
  readonly home: string;
  /** @default 'onnx-cpu' */
  readonly engine?: EngineChoice;
  /** Threads of an evaluation. */
  readonly threads: number;
}

export interface TrainerValidatorDeps {
  readonly blobs: FileBlobs;
  readonly clock: Clock;
  readonly log: Logger;
  /** Packed held-out data of a job; null when there is no such job. */
  readonly heldOut: (job: string) => Uint8Array | null;
}

/** Trainer processes kept ready: each holds a base model in memory. */
const PROCESSES = 2;

interface Ready {
  readonly process: Promise<TrainerProcess>;
  readonly rows: readonly Row[];
}

/** Evaluates in a trainer process per job, started when it is first needed and again when it has died. */
export class TrainerValidator implements Validator {
  private readonly options: TrainerValidatorOptions;
  private readonly deps: TrainerValidatorDeps;
  /** Least recently used first. */
  private readonly ready = new Map<string, Ready>();
  /** Held-out data of jobs that are still being made. */
  private readonly lent = new Map<string, Uint8Array>();
  private readonly life = new AbortController();

  constructor(options: TrainerValidatorOptions, deps: TrainerValidatorDeps) {
    this.options = options;
    this.deps = deps;
  }

  /** Evaluates for a job that the store does not have yet. A job that fails here leaves no process behind. */
  async measure(
    { job, manifest, heldOut }: ValidationJob & { heldOut: Uint8Array },
    adapter: readonly Float32Array[],
    options: { signal: AbortSignal },
  ): Promise<readonly RowLoss[]> {
    this.lent.set(job, heldOut);
    try {
      return await this.evaluate({ job, manifest }, adapter, options);
    } catch (error) {
      await this.release(job);
      throw error;
    } finally {
      this.lent.delete(job);
    }
  }

  async evaluate(
    job: ValidationJob,
    adapter: readonly Float32Array[],
    { signal }: { signal: AbortSignal },
  ): Promise<readonly RowLoss[]> {
    const { process, rows } = await this.prepared(job);
    try {
      const trainer = await process;
      return await trainer.evaluate({ adapter, rows, signal: AbortSignal.any([signal, this.life.signal]) });
    } catch (error) {
      // A process that has died, or never started, is not asked twice.
      const alive = await process.then(
        (trainer) => trainer.alive,
        () => false,
      );
      if (!alive && this.ready.get(job.job)?.process === process) this.ready.delete(job.job);
      throw error;
    }
  }

  async release(job: string): Promise<void> {
    const known = this.ready.get(job);
    this.ready.delete(job);
    await known?.process.then((process) => process.stop()).catch(() => {});
  }

  async stop(): Promise<void> {
    this.life.abort(new SwarmError('STOPPED', 'the coordinator is stopping', {}));
    await Promise.all([...this.ready.keys()].map((job) => this.release(job)));
  }

  private async prepared({ job, manifest }: ValidationJob): Promise<Ready> {
    const known = this.ready.get(job);
    const entry = known ?? { process: this.start(manifest), rows: this.rows(job, manifest) };
    this.ready.delete(job);
    this.ready.set(job, entry);
    // Whoever evaluates gets the error.
    entry.process.catch(() => {});
    for (const other of this.ready.keys()) {
      if (this.ready.size <= PROCESSES) break;
      await this.release(other);
    }
    return entry;
  }

  private rows(job: string, { acceptance }: Manifest): Row[] {
    const bytes = this.lent.get(job) ?? this.deps.heldOut(job);
    if (!bytes) throw new SwarmError('HELD_OUT_MISSING', `there is no held-out data of job ${job}`, { job });
    return gateRows(decodeHeldOut(bytes), acceptance.heldOutRows);
  }

  private async start(manifest: Manifest): Promise<TrainerProcess> {
    const { home, engine: asked = 'onnx-cpu', threads } = this.options;
    const { clock, log } = this.deps;
    const { signal } = this.life;
    const pathOf = (digest: string): string => this.deps.blobs.path(digest);
    const modelDir = await layOutBase({ home, base: manifest.base, pathOf });
    const { engine, reason } = await chooseEngine({
      engine: asked,
      model: await openModel(modelDir),
      threads,
      baseBits: 32,
      recordDir: join(home, 'engines'),
      now: clock.now(),
      signal,
    });
    log.info({ engine, reason }, 'engine-chosen');
    const options: TrainerOptions = {
      modelDir,
      cacheDir: join(home, 'cache'),
      threads,
      engine,
      lora: manifest.lora,
      training: trainingConfigSchema.parse(manifest.training),
    };
    const onLog = (line: string): void => log.debug({ line }, 'validator-says');
    return TrainerProcess.start(options, { onLog, signal });
  }
}
