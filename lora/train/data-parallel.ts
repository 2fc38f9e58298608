/** One optimiser step on several devices: each takes some of the batch, and the sums are those of the whole batch. */
import type { Row } from '../data/row.ts';
import type { LossAndGradients } from './step.ts';

export interface GradientRequest {
  readonly adapter: readonly Float32Array[];
  readonly rows: readonly Row[];
  /** Optimiser step and, within it, the number of the first micro-batch: the random numbers follow from them. */
  readonly step: number;
  readonly first: number;
}

export interface GradientSums extends LossAndGradients {
  /** Sums over the rows, for every trained tensor. */
  readonly gradients: readonly Float32Array[];
  /** That it took. */
  readonly seconds: number;
}

/** Another device, in a process of its own. */
export interface Helper {
  readonly name: string;
  /** @returns `sent` when the request has left this process, which then may block; `sums` when they are here */
  gradients(
    request: GradientRequest,
    signal: AbortSignal | undefined,
  ): { sent: Promise<void>; sums: Promise<GradientSums> };
  /** Ends its process. Never rejects. */
  stop(): Promise<void>;
}

export interface TeamOptions {
  /** Rows of a run of the graph: parts of a batch are multiples of it. */
  microBatch: number;
  /** A device has failed; its rows are computed here, and those to come are spread over the others. */
  onLost: (name: string, error: unknown) => void;
}

/** How much of what was measured before counts beside the newest step. */
const MEMORY = 0.5;

interface Member {
  readonly helper: Helper;
  /** Micro-batches per second; null before the first. */
  speed: number | null;
}

export class Team {
  readonly #options: TeamOptions;
  #members: Member[];
  #ownSpeed: number | null = null;

  constructor(helpers: readonly Helper[], options: TeamOptions) {
    this.#members = helpers.map((helper) => ({ helper, speed: null }));
    this.#options = options;
  }

  /**
   * Sums over a batch. In a fixed order: this device first, then the others as they were named.
   * @param own computes rows on this device, zeros for none; it adds up in tensors of its own, the result's `gradients`
   */
  async gradients(
    { rows, ...request }: Omit<GradientRequest, 'first'>,
    own: (rows: readonly Row[], first: number) => Promise<Omit<GradientSums, 'seconds'>>,
    signal: AbortSignal | undefined,
  ): Promise<LossAndGradients> {
    const { microBatch, onLost } = this.#options;
    const members = this.#members;
    const parts = split(Math.ceil(rows.length / microBatch), [
      this.#ownSpeed,
      ...members.map(({ speed }) => speed),
    ]);
    let first = parts[0]!;
    const asked = members.map((member, i) => {
      const from = first;
      first += parts[i + 1]!;
      const some = rows.slice(from * microBatch, first * microBatch);
      if (some.length === 0) return null;
      const { sent, sums } = member.helper.gradients({ ...request, rows: some, first: from }, signal);
      // Whoever waits for the sums gets the error, and that may be a while.
      sums.catch(() => {});
      return { member, some, from, count: parts[i + 1]!, sent, sums };
    });
    const busy = asked.filter((part) => part !== null);
    await Promise.all(busy.map(({ sent }) => sent));
    const started = performance.now();
    const mine = await own(rows.slice(0, parts[0]! * microBatch), 0);
    if (parts[0]! > 0) {
      this.#ownSpeed = average(this.#ownSpeed, parts[0]! / ((performance.now() - started) / 1000));
    }
    let { lossSum, tokens } = mine;
    // Tensors of its own, which it overwrites when it is asked again.
    const total = mine.gradients;
    const addTo = (sums: Omit<GradientSums, 'seconds'>) => {
      lossSum += sums.lossSum;
      tokens += sums.tokens;
      for (const [t, tensor] of total.entries()) {
        const more = sums.gradients[t]!;
        for (let i = 0; i < tensor.length; i++) tensor[i] = tensor[i]! + more[i]!;
      }
    };
    const left: { rows: readonly Row[]; from: number }[] = [];
    for (const { member, some, from, count, sums } of busy) {
      try {
        const found = await sums;
        addTo(found);
        member.speed = average(member.speed, count / found.seconds);
      } catch (error) {
        signal?.throwIfAborted();
        this.#members = this.#members.filter((one) => one !== member);
        onLost(member.helper.name, error);
        // A process that has only failed would keep its copy of the base, here and on the device, until the end.
        void member.helper.stop();
        left.push({ rows: some, from });
      }
    }
    for (const { rows: some, from } of left) {
      const before = total.map((tensor) => tensor.slice());
      const again = await own(some, from);
      addTo({ ...again, gradients: before });
    }
    return { lossSum, tokens };
  }
}

function average(before: number | null, now: number): number {
  return before === null ? now : MEMORY * before + (1 - MEMORY) * now;
}

/**
 * Parts of `count` micro-batches, in whole numbers: each goes to the device that would be done with it first.
 *
 * @param speeds null: not known yet, taken as the mean of the others
 */
export function split(count: number, speeds: readonly (number | null)[]): number[] {
  const known = speeds.filter((speed) => speed !== null);
  const mean = known.length === 0 ? 1 : known.reduce((sum, speed) => sum + speed, 0) / known.length;
  const shares = speeds.map((speed) => speed ?? mean);
  const parts = shares.map(() => 0);
  for (let given = 0; given < count; given++) {
    const next = shares.reduce(
      (best, speed, i) => ((parts[i]! + 1) / speed < (parts[best]! + 1) / shares[best]! ? i : best),
      0,
    );
    parts[next]!++;
  }
  return parts;
}
