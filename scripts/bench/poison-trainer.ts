/** The one real trainer that all nodes of a poisoned swarm share, and the rows that each of them trains on. */
import { createHash } from 'node:crypto';
import pLimit from 'p-limit';
import type { Store, StoredRound } from '../../coordinator/store/store.ts';
import { permutation, permutationKey } from '../../lora/data/permutation.ts';
import type { Row } from '../../lora/data/row.ts';
import type { AdamWState } from '../../lora/train/optimizer/adamw.ts';
import type { RowLoss } from '../../lora/train/step.ts';
import type { JobPosition, Trainer, TrainResult } from '../../lora/train/trainer.ts';
import type { LossGradient } from '../../lora/update/score.ts';
import { STALE_ROUNDS } from '../../protocol/limits.ts';

/**
 * Number of remembered results. They are enough for a run of five rounds with ten nodes, and for the rounds that this run
 * has in common with other runs. A training result takes 4 MB, and a gradient 1.3 MB.
 */
const REMEMBERED = 300;
/** Number of newest rounds whose intervals may be audited. */
const AUDITED_ROUNDS = 100;

export interface Training {
  readonly adapter: readonly Float32Array[];
  readonly optimizer: AdamWState;
  readonly rows: readonly Row[];
  readonly steps: number;
  readonly position?: JobPosition;
}

export interface Trained {
  readonly adapter: Float32Array[];
  readonly optimizer: AdamWState;
  readonly result: TrainResult;
}

/** Serialises the calls of many nodes. Remembers results, because runs with equal seeds begin with equal work. */
export class SharedTrainer {
  readonly #trainer: Trainer;
  readonly #turn = pLimit(1);
  /** Results by the digest of their arguments, the least recently used first. */
  readonly #known = new Map<string, unknown>();

  constructor(trainer: Trainer) {
    this.#trainer = trainer;
  }

  get layout() {
    return this.#trainer.layout;
  }

  train({ adapter, optimizer, rows, steps, position }: Training): Promise<Trained> {
    const trainer = this.#trainer;
    const tensors = [...adapter, ...optimizer.m, ...optimizer.v];
    return this.#once(['train', optimizer.step, steps, position], { tensors, rows }, async () => {
      trainer.setParameters(adapter);
      trainer.setOptimizerState(optimizer);
      const result = await trainer.train({ rows, steps, ...(position && { position }) });
      return { adapter: trainer.parameters(), optimizer: trainer.optimizerState(), result };
    });
  }

  evaluate(adapter: readonly Float32Array[], rows: readonly Row[]): Promise<RowLoss[]> {
    return this.#once(['evaluate'], { tensors: adapter, rows }, () => {
      this.#trainer.setParameters(adapter);
      return this.#trainer.evaluate(rows);
    });
  }

  gradient(adapter: readonly Float32Array[], rows: readonly Row[]): Promise<LossGradient> {
    return this.#once(['gradient'], { tensors: adapter, rows }, () => {
      this.#trainer.setParameters(adapter);
      return this.#trainer.lossGradient(rows);
    });
  }

  /** Returns the result of `work`, or the remembered result of an earlier call with equal arguments. */
  #once<T>(
    settings: readonly unknown[],
    data: { tensors: readonly Float32Array[]; rows: readonly Row[] },
    work: () => Promise<T>,
  ): Promise<T> {
    return this.#turn(async () => {
      const key = digestOf(settings, data);
      const result = this.#known.has(key) ? (this.#known.get(key) as T) : await work();
      this.#known.delete(key);
      this.#known.set(key, result);
      for (const old of [...this.#known.keys()].slice(0, -REMEMBERED)) this.#known.delete(old);
      return result;
    });
  }
}

function digestOf(
  settings: readonly unknown[],
  { tensors, rows }: { tensors: readonly Float32Array[]; rows: readonly Row[] },
): string {
  const hash = createHash('sha256').update(JSON.stringify(settings));
  const arrays = [...tensors, ...rows.flatMap(({ ids, labels }) => [ids, labels])];
  for (const { buffer, byteOffset, byteLength } of arrays) {
    hash.update(new Uint8Array(buffer, byteOffset, byteLength));
  }
  return hash.digest('hex');
}

/**
 * Gives each node of a swarm its own part of the rows. The coordinator draws the rows of a round from all data, as
 * usual. This class then replaces the drawn rows, both where a node trains and where the coordinator scores updates.
 * Rows in the interval of a node are replaced with rows from the node's part. Rows that were assigned to no node are
 * replaced with rows from all parts in turn.
 */
export class Books {
  readonly #rows: readonly Row[];
  readonly #peers: readonly string[];
  readonly #places: ReadonlyMap<string, number>;
  /** For each round, a map from the index of a row in `rows` to the row's position in the round. */
  readonly #positions = new Map<number, Map<number, number>>();

  /** @param peers owners of the parts of `rows`, in the order of the parts */
  constructor(rows: readonly Row[], peers: readonly string[]) {
    this.#rows = rows;
    this.#peers = peers;
    this.#places = new Map(rows.map((row, i) => [keyOf(row), i]));
  }

  /**
   * Replaces rows of the newest rounds. If the coordinator trains an interval again for an audit, the rows
   * may be of an older round.
   * @param options `reader`: the node that trains on the rows; absent if the coordinator computes scores or
   *   losses on the rows. `isInterval`: whether the coordinator trains the interval of a node again
   */
  replace(
    rows: readonly Row[],
    {
      job,
      store,
      reader,
      isInterval = false,
    }: { job: string; store: Store; reader?: string; isInterval?: boolean },
  ): Row[] {
    const rounds = isInterval
      ? [this.#roundOf(rows, { job, rounds: store.rounds.newest(job, AUDITED_ROUNDS) })]
      : store.rounds.newest(job, STALE_ROUNDS + 1);
    return rows.map((row) => {
      const place = this.#places.get(keyOf(row))!;
      for (const { round, parent, assignments } of rounds) {
        const position = this.#positionsIn({ job, round, parent }).get(place)!;
        const given = assignments.find(({ start, end }) => start <= position && position < end);
        if (given ? reader === undefined || given.peer === reader : reader === undefined) {
          const longest = Math.max(...assignments.map(({ start, end }) => end - start));
          const offset = given ? position - given.start : longest + position;
          return this.#rowOf(
            given?.peer ?? this.#peers[position % this.#peers.length]!,
            round,
            offset,
            longest,
          );
        }
      }
      throw new Error('a node read rows that were not assigned to it');
    });
  }

  /** Returns the round in which the interval of one node contains all of these rows. */
  #roundOf(
    rows: readonly Row[],
    { job, rounds }: { job: string; rounds: readonly StoredRound[] },
  ): StoredRound {
    const found = rounds.find(({ round, parent, assignments }) => {
      const positions = this.#positionsIn({ job, round, parent });
      const places = rows.map((row) => positions.get(this.#places.get(keyOf(row))!)!);
      return assignments.some(({ start, end }) => places.every((place) => start <= place && place < end));
    });
    if (!found) throw new Error('an audit read rows that were assigned to no node');
    return found;
  }

  /**
   * Returns a row of a peer's part. Rows of an interval have offsets below `longest`, and rows that were
   * assigned to no node have larger offsets. A row of the first kind is never also a row of the second kind.
   */
  #rowOf(peer: string, round: number, offset: number, longest: number): Row {
    const part = Math.floor(this.#rows.length / this.#peers.length);
    const owner = this.#peers.indexOf(peer);
    const permute = permutation(part, permutationKey({ job: peer, round, parent: '', epoch: 0 }));
    const index = offset < longest ? offset : longest + (offset % (part - longest));
    return this.#rows[owner * part + permute(index)]!;
  }

  #positionsIn(key: { job: string; round: number; parent: string }): Map<number, number> {
    const known = this.#positions.get(key.round);
    if (known) return known;
    const permute = permutation(this.#rows.length, permutationKey({ ...key, epoch: 0 }));
    const positions = new Map(this.#rows.map((_, position) => [permute(position), position]));
    this.#positions.set(key.round, positions);
    return positions;
  }
}

function keyOf({ ids }: Row): string {
  return Buffer.from(ids.buffer, ids.byteOffset, ids.byteLength).toString('latin1');
}
