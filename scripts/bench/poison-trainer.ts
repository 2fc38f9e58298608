/** The one real trainer that all nodes of a poisoned swarm share, and the rows that each of them trains on. */
import { createHash } from 'node:crypto';
import pLimit from 'p-limit';
import type { Store } from '../../coordinator/store/store.ts';
import { permutation, permutationKey } from '../../lora/data/permutation.ts';
import type { Row } from '../../lora/data/row.ts';
import type { AdamWState } from '../../lora/train/optimizer/adamw.ts';
import type { RowLoss } from '../../lora/train/step.ts';
import type { JobPosition, Trainer, TrainResult } from '../../lora/train/trainer.ts';
import type { LossGradient } from '../../lora/update/score.ts';
import { STALE_ROUNDS } from '../../protocol/limits.ts';

/** Number of remembered training results: those of the first five rounds of ten nodes. Each takes 4 MB. */
const REMEMBERED = 50;

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
  readonly #known = new Map<string, Trained>();

  constructor(trainer: Trainer) {
    this.#trainer = trainer;
  }

  get layout() {
    return this.#trainer.layout;
  }

  train(training: Training): Promise<Trained> {
    return this.#turn(async () => {
      const key = digestOf(training);
      const trained = this.#known.get(key) ?? (await this.#train(training));
      this.#known.set(key, trained);
      for (const old of [...this.#known.keys()].slice(0, -REMEMBERED)) this.#known.delete(old);
      return trained;
    });
  }

  evaluate(adapter: readonly Float32Array[], rows: readonly Row[]): Promise<RowLoss[]> {
    return this.#turn(() => {
      this.#trainer.setParameters(adapter);
      return this.#trainer.evaluate(rows);
    });
  }

  gradient(adapter: readonly Float32Array[], rows: readonly Row[]): Promise<LossGradient> {
    return this.#turn(() => {
      this.#trainer.setParameters(adapter);
      return this.#trainer.lossGradient(rows);
    });
  }

  async #train({ adapter, optimizer, rows, steps, position }: Training): Promise<Trained> {
    const trainer = this.#trainer;
    trainer.setParameters(adapter);
    trainer.setOptimizerState(optimizer);
    const result = await trainer.train({ rows, steps, ...(position && { position }) });
    return { adapter: trainer.parameters(), optimizer: trainer.optimizerState(), result };
  }
}

function digestOf({ adapter, optimizer, rows, steps, position }: Training): string {
  const hash = createHash('sha256').update(JSON.stringify([optimizer.step, steps, position]));
  const tensors = [...adapter, ...optimizer.m, ...optimizer.v];
  for (const { buffer, byteOffset, byteLength } of [
    ...tensors,
    ...rows.flatMap(({ ids, labels }) => [ids, labels]),
  ]) {
    hash.update(new Uint8Array(buffer, byteOffset, byteLength));
  }
  return hash.digest('hex');
}

/**
 * The books of a swarm in which each node trains on its own part of the data. A coordinator draws the rows of all nodes
 * from all data. This class replaces these rows, for nodes and for the coordinator alike: those of a node's interval by
 * rows of the node's part, and those that no node was assigned by other rows of all parts.
 */
export class Books {
  readonly #rows: readonly Row[];
  readonly #peers: readonly string[];
  readonly #places: ReadonlyMap<string, number>;
  /** Position of each row in a round, by round. */
  readonly #positions = new Map<number, Map<number, number>>();

  /** @param peers owners of the parts of `rows`, in order */
  constructor(rows: readonly Row[], peers: readonly string[]) {
    this.#rows = rows;
    this.#peers = peers;
    this.#places = new Map(rows.map((row, i) => [keyOf(row), i]));
  }

  /**
   * Replaces rows of the newest rounds.
   * @param reader the node that trains on the rows. @default the coordinator, which scores updates
   */
  replace(
    rows: readonly Row[],
    { job, store, reader }: { job: string; store: Store; reader?: string },
  ): Row[] {
    const rounds = store.rounds.newest(job, STALE_ROUNDS + 1);
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
      throw new Error('a node read rows that it was not assigned');
    });
  }

  /** Returns a row of a peer's part. An offset of at least `longest` never selects the same row as one below. */
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
