import { createHash } from 'node:crypto';
import { glob } from 'node:fs/promises';
import { encodePacked, SHARD_BYTES } from '../lora/data/packed.ts';
import { packDocuments, predictedTokens, type Row } from '../lora/data/packing.ts';
import { readDocuments } from '../lora/data/text.ts';
import type { TextTokenizer } from '../lora/data/tokenizer.ts';
import type { BlobStore } from '../net/network.ts';
import { encodeCbor, sha256 } from '../protocol/cbor.ts';
import { SwarmError } from '../protocol/errors.ts';
import type { Manifest } from '../protocol/manifest.ts';
import type { JobSpec } from './job-spec.ts';

export interface JobData {
  /** As the manifest lists it; the shards are blobs. */
  readonly data: Manifest['data'];
  /** Packed held-out rows; see `decodeHeldOut`. Never a blob: those are open to every peer. */
  readonly heldOut: Uint8Array;
}

export interface JobDataOptions {
  readonly spec: Pick<JobSpec, 'data' | 'training' | 'seed'>;
  readonly tokenizer: TextTokenizer;
  readonly signal: AbortSignal;
  /** Documents packed so far, of all. */
  readonly onProgress: (done: number, total: number) => void;
}

/** Held-out rows, in bytes as in rows of at most 10 bytes a token: what a coordinator keeps in memory to evaluate. */
export const HELD_OUT_ROWS = 65_536;

/**
 * Reads a job's documents, splits the held-out ones off, and packs both; the training rows become blobs.
 * @throws SwarmError DATA_NO_FILES, DATA_TOO_SMALL, HELD_OUT_TOO_LARGE, DATA_UNREADABLE, DATA_ROW, STORE_FULL
 */
export async function packJobData(
  options: JobDataOptions,
  deps: { blobs: Pick<BlobStore, 'put'> },
): Promise<JobData> {
  const { spec, signal } = options;
  const train = await expand(spec.data.train);
  const { heldOut: apart } = spec.data;
  let total = await count(readDocuments(train, { signal }));
  const chosen = typeof apart === 'number' ? chooseHeldOut(total, apart, spec.seed) : new Set<number>();
  const separate = typeof apart === 'number' ? [] : await expand(apart);
  if (separate.length > 0) total += await count(readDocuments(separate, { signal }));
  let done = 0;
  const documents = async function* (files: readonly string[], wanted: (index: number) => boolean) {
    let index = 0;
    for await (const document of readDocuments(files, { signal })) {
      if (!wanted(index++)) continue;
      yield document;
      options.onProgress(++done, total);
    }
  };
  const heldOutDocuments =
    separate.length > 0 ? documents(separate, () => true) : documents(train, (i) => chosen.has(i));
  const { sequenceLength } = spec.training;
  const pack = (source: AsyncIterable<string>): AsyncGenerator<Row> =>
    packDocuments(source, options.tokenizer, { sequenceLength });

  const heldOutRows: Row[] = [];
  for await (const row of pack(heldOutDocuments)) {
    heldOutRows.push(row);
    if (heldOutRows.length <= HELD_OUT_ROWS) continue;
    throw new SwarmError(
      'HELD_OUT_TOO_LARGE',
      `the held-out data makes more than ${HELD_OUT_ROWS} rows; a few hundred documents are enough`,
      { limit: HELD_OUT_ROWS },
    );
  }
  const trained = await packShards(pack(documents(train, (i) => !chosen.has(i))), options, deps);
  if (heldOutRows.length === 0 || trained.rows === 0) {
    const which = trained.rows === 0 ? 'training' : 'held-out';
    throw new SwarmError(
      'DATA_TOO_SMALL',
      `the ${which} data holds no text to learn from; give more or longer documents`,
      {
        which,
        trainingRows: trained.rows,
        heldOutRows: heldOutRows.length,
      },
    );
  }
  const heldOut = encodeCbor(encodePacked(heldOutRows));
  return {
    data: {
      ...trained,
      sequenceLength,
      heldOut: { digest: sha256(heldOut), rows: heldOutRows.length, tokens: tokensOf(heldOutRows) },
    },
    heldOut,
  };
}

/** Packs rows into shards of at most SHARD_BYTES; each is a blob as soon as it is full. */
async function packShards(
  rows: AsyncIterable<Row>,
  { spec, tokenizer }: JobDataOptions,
  { blobs }: { blobs: Pick<BlobStore, 'put'> },
): Promise<Pick<Manifest['data'], 'rows' | 'tokens' | 'shards'>> {
  // Ids and labels take 2 bytes each with vocabularies below 65,535, else 4; segments take 2. The header needs little.
  const rowBytes = spec.training.sequenceLength * (tokenizer.vocabSize < 0xffff ? 6 : 10);
  const perShard = Math.max(1, Math.floor((SHARD_BYTES - 256) / rowBytes));
  const result = { rows: 0, tokens: 0, shards: [] as Manifest['data']['shards'] };
  let waiting: Row[] = [];
  const flush = async (): Promise<void> => {
    for (const bytes of encodePacked(waiting)) {
      const digest = await blobs.put(bytes);
      result.shards.push({ digest, size: bytes.byteLength, rows: waiting.length });
    }
    result.rows += waiting.length;
    result.tokens += tokensOf(waiting);
    waiting = [];
  };
  for await (const row of rows) if (waiting.push(row) === perShard) await flush();
  await flush();
  return result;
}

/** The documents with the smallest hashes of seed and index: at least one, and never all. */
function chooseHeldOut(documents: number, share: number, seed: number): Set<number> {
  if (documents < 2) {
    throw new SwarmError(
      'DATA_TOO_SMALL',
      `${documents} document cannot be split into training and held-out data; name held-out files, or use .jsonl with one document per line`,
      { documents },
    );
  }
  const hash = (index: number): string =>
    createHash('sha256').update(`held-out/${seed}/${index}`).digest('hex');
  const order = Array.from({ length: documents }, (_, index) => ({ index, hash: hash(index) }));
  order.sort((a, b) => (a.hash < b.hash ? -1 : 1));
  const size = Math.min(documents - 1, Math.max(1, Math.round(share * documents)));
  return new Set(order.slice(0, size).map(({ index }) => index));
}

/** Files that the paths name, patterns replaced by what they match, sorted. @throws SwarmError DATA_NO_FILES */
async function expand(paths: string | readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const path of typeof paths === 'string' ? [paths] : paths) {
    if (!/[*?[{]/.test(path)) {
      found.push(path);
      continue;
    }
    const matches: string[] = [];
    for await (const match of glob(path)) matches.push(match);
    if (matches.length === 0) throw new SwarmError('DATA_NO_FILES', `no file matches ${path}`, { path });
    found.push(...matches.sort());
  }
  return found;
}

async function count(documents: AsyncIterable<unknown>): Promise<number> {
  let n = 0;
  for await (const _ of documents) n++;
  return n;
}

function tokensOf(rows: readonly Row[]): number {
  return rows.reduce((sum, row) => sum + predictedTokens(row), 0);
}
