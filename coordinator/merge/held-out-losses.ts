import { mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { isAlive } from '../../common/files/durable.ts';
import { systemClock } from '../../common/time/system-clock.ts';
import { decodeAdapter } from '../../lora/adapter/codec.ts';
import { type AdapterLayout, adapterLayout } from '../../lora/adapter/layout.ts';
import { earlierChoiceAdvice } from '../../lora/data/held-out-choice.ts';
import { loadTokenizer } from '../../lora/data/tokenizer.ts';
import type { JobSpec } from '../../lora/finetune/settings/job-spec.ts';
import { describeBase } from '../../lora/models/base/base-identity.ts';
import { openBase } from '../../lora/models/base/base-model.ts';
import { type ComputeInput, parseCompute } from '../../lora/train/compute.ts';
import { silentLogger } from '../../monitor/logs/log.ts';
import { sha256 } from '../../protocol/cbor.ts';
import type { LossMeter, MeasuredJob } from '../../verify/checks/losses.ts';
import type { ScoreMeter } from '../../verify/checks/scores.ts';
import { verifyError } from '../../verify/errors.ts';
import { packJobData } from '../jobs/pack-data.ts';
import { meanLoss } from './comparison.ts';
import { OwnDataScores, StoredShards } from './own-data-scores.ts';
import { TrainerValidator } from './trainer-validator.ts';

/** Beginning of the names of temporary folders. The id of the process follows. */
const PREFIX = 'verify-';
/**
 * Minimum age, in milliseconds, of a temporary folder that is deleted because its process no longer runs. The process
 * id alone does not prove that, because containers that share the folder cannot see each other's processes.
 */
const ABANDONED_MS = 24 * 60 * 60 * 1000;

/** The base and the data of a job on this machine, and how to compute losses. */
export interface HeldOutOptions {
  /** Folder of the base. */
  readonly base: string;
  /** Data of the job, as its job file names them. */
  readonly data: JobSpec['data'];
  /** Folder for digests of files, and for temporary files, which `close` deletes. */
  readonly cacheDir: string;
  /** @default the fastest engine of this machine, with a 32-bit base */
  readonly compute?: ComputeInput;
  /** Whether to keep the training rows in temporary files, so that scores can be measured. @default false */
  readonly scores?: boolean;
}

interface Prepared {
  readonly job: string;
  readonly layout: AdapterLayout;
  readonly validator: TrainerValidator;
  readonly shards: StoredShards;
}

/**
 * Measures the held-out losses of a job as its coordinator does. Reads the base and the held-out rows from
 * files of the user, so the coordinator need not publish the held-out rows. The digests of base and rows must
 * be those in the manifest.
 */
export class HeldOutLosses implements LossMeter {
  readonly #options: HeldOutOptions;
  readonly #home: string;
  #prepared: Prepared | null = null;
  /** Measures the scores of the job's merges with the same base and data; null without the option `scores`. */
  readonly scores: ScoreMeter | null;

  private constructor(options: HeldOutOptions, home: string) {
    this.#options = options;
    this.#home = home;
    this.scores = options.scores
      ? new OwnDataScores(async (measured, signal) => {
          const prepared = await this.#preparedFor(measured, signal);
          prepared.shards.check(measured);
          return prepared;
        })
      : null;
  }

  /**
   * Makes a temporary folder in `cacheDir`, and deletes the temporary folders that killed processes left
   * there.
   */
  static async open(options: HeldOutOptions): Promise<HeldOutLosses> {
    const { cacheDir } = options;
    await removeAbandoned(cacheDir, systemClock.now());
    return new HeldOutLosses(options, await mkdtemp(join(cacheDir, `${PREFIX}${process.pid}-`)));
  }

  /**
   * Returns the mean held-out loss of an adapter in nats per token; null if the rows have no supervised token.
   * @throws SwarmError BASE_DIFFERS or HELD_OUT_DIFFERS if base or data are not the base or data of the job; errors of
   * base, data and trainer
   */
  async measure(
    measured: MeasuredJob,
    adapter: Uint8Array,
    { signal }: { signal: AbortSignal },
  ): Promise<number | null> {
    const { validator, layout } = await this.#preparedFor(measured, signal);
    const tensors = decodeAdapter(adapter, layout);
    return meanLoss(await validator.evaluate(measured, tensors, { signal, onFallback: () => {} }));
  }

  /** Ends the trainer process and deletes the temporary files. */
  async close(): Promise<void> {
    await this.#prepared?.validator.stop();
    await rm(this.#home, { recursive: true, force: true });
  }

  async #preparedFor(measured: MeasuredJob, signal: AbortSignal): Promise<Prepared> {
    const known = this.#prepared;
    return known !== null && known.job === measured.job ? known : this.#prepare(measured, signal);
  }

  async #prepare({ job, manifest }: MeasuredJob, signal: AbortSignal): Promise<Prepared> {
    await this.#prepared?.validator.stop();
    const { base, data, cacheDir, compute = {}, scores = false } = this.#options;
    const { digest } = await describeBase(base, { signal, cacheDir });
    if (digest !== manifest.base.digest) {
      const text = `the base in ${base} has the digest ${digest}, but the job has the base ${manifest.base.digest}`;
      throw verifyError('BASE_DIFFERS', text, { digest, expected: manifest.base.digest });
    }
    const { training, seed } = manifest;
    const folder = join(this.#home, 'shards');
    await mkdir(folder, { recursive: true });
    const shards = new StoredShards(folder);
    const { heldOut } = await packJobData(
      {
        spec: { base, data, training, seed },
        tokenizer: await loadTokenizer(base),
        signal,
        onProgress: () => {},
      },
      { clock: systemClock, blobs: scores ? shards : { put: async (bytes) => sha256(bytes) } },
    );
    const found = sha256(heldOut);
    const { digest: expected } = manifest.data.heldOut;
    if (found !== expected) {
      const text = `the data gives held-out rows with the digest ${found}, but the held-out rows of the job have the digest ${expected}`;
      const error = verifyError('HELD_OUT_DIFFERS', text, { digest: found, expected });
      const advice = earlierChoiceAdvice({ seed, heldOut: data.heldOut });
      throw advice === null ? error : error.with({ next: `${error.next}; ${advice}` });
    }
    const validator = new TrainerValidator(
      { home: this.#home, compute: parseCompute(compute, { threads: availableParallelism() }) },
      { baseFolder: async () => base, clock: systemClock, log: silentLogger, heldOut: () => heldOut },
    );
    const layout = adapterLayout(await openBase(base), manifest.lora);
    this.#prepared = { job, layout, validator, shards };
    return this.#prepared;
  }
}

async function removeAbandoned(folder: string, now: number): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!name.startsWith(PREFIX) || isAlive(Number(name.split('-')[1]))) continue;
    const path = join(folder, name);
    // Skip a folder that another process has deleted since this process read the list.
    const entry = await stat(path).catch(() => null);
    if (entry !== null && now - entry.mtimeMs > ABANDONED_MS)
      await rm(path, { recursive: true, force: true });
  }
}
