import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Row } from '../../lora/data/row.ts';
import { placesInRound, readRows } from '../../lora/data/shards/round-rows.ts';
import type { LossGradient } from '../../lora/update/score.ts';
import { sha256 } from '../../protocol/cbor.ts';
import type { MeasuredJob } from '../../verify/checks/losses.ts';
import type { RowsOfRound, ScoreMeter } from '../../verify/checks/scores.ts';
import { verifyError } from '../../verify/errors.ts';
import type { Validator } from '../context.ts';
import { meanLoss } from './comparison.ts';

/** Computes gradients and losses on the training rows of a job, and reads these rows. */
export interface PreparedScores {
  readonly validator: Pick<Validator, 'gradient' | 'losses'>;
  readonly shards: StoredShards;
}

/** The data shards of a job, as files that this machine has packed from the data files of the user. */
export class StoredShards {
  readonly #folder: string;
  readonly #stored = new Set<string>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  async put(bytes: Uint8Array): Promise<string> {
    const digest = sha256(bytes);
    if (!this.#stored.has(digest)) await writeFile(this.#path(digest), bytes);
    this.#stored.add(digest);
    return digest;
  }

  /** @throws SwarmError ROWS_DIFFER if a shard of the manifest does not exist here */
  check({ manifest }: MeasuredJob): void {
    const missing = manifest.data.shards.find(({ digest }) => !this.#stored.has(digest));
    if (missing === undefined) return;
    const text = `the data gives no shard with the digest ${missing.digest}, but the training data of the job has this shard`;
    throw verifyError('ROWS_DIFFER', text, { digest: missing.digest });
  }

  async read({ job, manifest }: MeasuredJob, wanted: RowsOfRound, signal: AbortSignal): Promise<Row[]> {
    const { positions, ...key } = wanted;
    const places = placesInRound(manifest.data, { job, ...key }, positions);
    const read = ({ digest }: { digest: string }) => readFile(this.#path(digest));
    return readRows(manifest.data, places, { read, signal });
  }

  #path(digest: string): string {
    return join(this.#folder, digest);
  }
}

/** Measures the scores of all updates, with base and data of the user. */
export class OwnDataScores implements ScoreMeter {
  readonly #prepare: (measured: MeasuredJob, signal: AbortSignal) => Promise<PreparedScores>;

  constructor(prepare: (measured: MeasuredJob, signal: AbortSignal) => Promise<PreparedScores>) {
    this.#prepare = prepare;
  }

  async gradient(
    measured: MeasuredJob,
    adapter: readonly Float32Array[],
    wanted: RowsOfRound,
    { signal }: { signal: AbortSignal },
  ): Promise<LossGradient> {
    const { validator, shards } = await this.#prepare(measured, signal);
    const rows = await shards.read(measured, wanted, signal);
    return validator.gradient(measured, adapter, rows, { signal, onFallback: () => {} });
  }

  async loss(
    measured: MeasuredJob,
    adapter: readonly Float32Array[],
    wanted: RowsOfRound,
    { signal }: { signal: AbortSignal },
  ): Promise<number> {
    const { validator, shards } = await this.#prepare(measured, signal);
    const rows = await shards.read(measured, wanted, signal);
    return meanLoss(await validator.losses(measured, adapter, rows, { signal, onFallback: () => {} })) ?? 0;
  }
}
