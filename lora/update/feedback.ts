import { createHash } from 'node:crypto';
import { addUpdate, compressUpdate, decodeUpdate, updatePreset } from './codec.ts';
import { updateError } from './errors.ts';
import type { Preset } from './format.ts';
import { checkTensors, planLayout, type UpdateLayout, zeros } from './format.ts';

/**
 * Default decay, chosen for LoRA with few peers. With SparseLoCo's published value of 0.95, a peer would send changes
 * that the updates of other peers have already made (decision 050).
 */
export const DEFAULT_DECAY = 0.5;

/** Options of an error feedback: the adapter's layout, and the decay. */
export interface ErrorFeedbackOptions {
  readonly layout: UpdateLayout;
  /** β, the share of the residual that survives a round: 0 keeps nothing, 1 keeps all. @default 0.5 */
  readonly decay?: number;
}

/**
 * Keeps what compression left out, to send it later (SparseLoCo, arXiv 2508.15706). In each round, the residual e
 * becomes β·e + Δ, where Δ is the round's change. Then the compressed values C(e) are sent, and e becomes e − C(e). All
 * arithmetic is float32, so that a residual from disk continues exactly like one in memory.
 */
export class ErrorFeedback {
  readonly layout: UpdateLayout;
  readonly decay: number;
  readonly #residual: Float32Array[];

  /** @throws UPDATE_WEIGHT when the decay is not within 0 to 1 */
  constructor({ layout, decay = DEFAULT_DECAY }: ErrorFeedbackOptions, residual = zeros(layout)) {
    if (!(decay >= 0 && decay <= 1)) {
      throw updateError('UPDATE_WEIGHT', `decay ${decay} is not between 0 and 1`, { decay });
    }
    checkTensors(layout, residual);
    this.layout = layout;
    this.decay = decay;
    this.#residual = residual;
  }

  /**
   * The residual, one tensor per entry of the layout. The tensors are views, valid until the next call that
   * changes the residual.
   */
  get residual(): readonly Float32Array[] {
    return this.#residual;
  }

  /**
   * Adds a round's change Δ to the residual e, after the decay β: e ← β·e + Δ.
   * @throws UPDATE_SHAPE; UPDATE_VALUES if a change is too large or not finite. The residual stays as it was
   */
  add(delta: readonly Float32Array[]): void {
    checkTensors(this.layout, delta);
    checkValues(this.layout, delta);
    const decay = Math.fround(this.decay);
    for (const [position, values] of this.#residual.entries()) {
      const change = delta[position]!;
      for (let index = 0; index < values.length; index++) {
        values[index] = Math.fround(decay * values[index]!) + change[index]!;
      }
    }
  }

  /**
   * Encodes the residual as an update, and subtracts the decoded values of this update from the residual.
   * @throws UPDATE_VALUES. The residual stays as it was
   */
  compress(preset: Preset): Uint8Array {
    const { bytes, update } = compressUpdate(this.layout, this.#residual, preset);
    addUpdate(this.#residual, update, -1);
    return bytes;
  }

  /**
   * Adds an update back to the residual, because the update was not accepted.
   * @param bytes the update, as `compress` returned it
   * @param rounds number of rounds since `compress`: the calls to `add` plus the missed rounds. The update decays by as
   *   many rounds, as if it had stayed in the residual. @default 0
   */
  restore(bytes: Uint8Array, rounds = 0): void {
    const update = decodeUpdate(bytes, this.layout, updatePreset(bytes));
    addUpdate(this.#residual, update, decayOver(this.decay, rounds));
  }

  /** Decays the residual for m rounds in which this node did not take part: e ← βᵐ·e. */
  missRounds(rounds: number): void {
    const factor = decayOver(this.decay, rounds);
    for (const values of this.#residual)
      for (let index = 0; index < values.length; index++) values[index]! *= factor;
  }

  /**
   * Returns an independent copy. The coordinator encodes a delta with a copy, so that the original stays unchanged
   * until the delta is committed.
   */
  clone(): ErrorFeedback {
    const residual = this.#residual.map((values) => values.slice());
    return new ErrorFeedback({ layout: this.layout, decay: this.decay }, residual);
  }

  /**
   * Encodes the residual for the disk: SHA-256 of the bytes that follow, layout digest, values as little-endian
   * float32.
   */
  encode(): Uint8Array {
    const { digest, parameters } = planLayout(this.layout);
    const bytes = new Uint8Array(CHECKSUM_BYTES + digest.length + 4 * parameters);
    bytes.set(digest, CHECKSUM_BYTES);
    let at = CHECKSUM_BYTES + digest.length;
    for (const values of this.#residual) {
      bytes.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), at);
      at += values.byteLength;
    }
    bytes.set(checksum(bytes));
    return bytes;
  }

  /**
   * Decodes an error feedback from the bytes that `encode` returned.
   * @throws UPDATE_SIZE, UPDATE_RESIDUAL if the bytes are damaged; UPDATE_LAYOUT if they belong to a different
   *   adapter
   */
  static decode(bytes: Uint8Array, options: ErrorFeedbackOptions): ErrorFeedback {
    const { digest, parameters } = planLayout(options.layout);
    const start = CHECKSUM_BYTES + digest.length;
    const expected = start + 4 * parameters;
    if (bytes.length !== expected) {
      const message = `the stored residual has ${bytes.length} bytes; this adapter needs ${expected}`;
      throw updateError('UPDATE_SIZE', message, { given: bytes.length, expected }, { next: START_EMPTY });
    }
    if (checksum(bytes).some((byte, position) => bytes[position] !== byte)) {
      throw updateError('UPDATE_RESIDUAL', 'the stored residual is damaged');
    }
    if (digest.some((byte, position) => bytes[CHECKSUM_BYTES + position] !== byte)) {
      throw updateError(
        'UPDATE_LAYOUT',
        'the stored residual belongs to a different adapter',
        {},
        { next: START_EMPTY },
      );
    }
    // `new Uint8Array` copies the bytes. `slice` of a Buffer would return a view into Node's shared pool.
    const values = new Float32Array(new Uint8Array(bytes.subarray(start)).buffer);
    let at = 0;
    const residual = zeros(options.layout).map((tensor) => {
      tensor.set(values.subarray(at, at + tensor.length));
      at += tensor.length;
      return tensor;
    });
    return new ErrorFeedback(options, residual);
  }
}

/**
 * Maximum change of a weight in one round. A larger change means that training has diverged. The largest scale of the
 * format is about twice as large.
 */
const LARGEST_CHANGE = 2 ** 16;

function checkValues(layout: UpdateLayout, tensors: readonly Float32Array[]): void {
  for (const [position, values] of tensors.entries()) {
    let fits = true;
    for (let index = 0; index < values.length; index++) fits &&= Math.abs(values[index]!) <= LARGEST_CHANGE;
    if (fits) continue;
    const { name } = layout[position]!;
    const message = `the change of ${name} is not finite or exceeds ${LARGEST_CHANGE}`;
    throw updateError('UPDATE_VALUES', message, { name, maximum: LARGEST_CHANGE });
  }
}

const START_EMPTY = 'start from an empty residual';

const CHECKSUM_BYTES = 32;

function checksum(bytes: Uint8Array): Uint8Array {
  return createHash('sha256').update(bytes.subarray(CHECKSUM_BYTES)).digest();
}

/**
 * Returns `decay` to the power of `rounds`, in float32. Multiplies repeatedly, because the last bit of `**`
 * may differ between machines.
 */
function decayOver(decay: number, rounds: number): number {
  if (!Number.isSafeInteger(rounds) || rounds < 0) {
    throw updateError(
      'UPDATE_WEIGHT',
      `the number of rounds is ${rounds}; it must be a whole number of at least 0`,
      {
        rounds,
      },
    );
  }
  let factor = 1;
  // After this many rounds the factor no longer changes. A decay that float32 rounds to 1 leaves the factor at 1, and
  // any smaller decay has brought the factor to 0 long before.
  const most = Math.min(rounds, 100_000);
  for (let round = 0; round < most && factor > 0; round++) factor = Math.fround(factor * Math.fround(decay));
  return factor;
}

/**
 * Takes the outer step θ ← θ − rate·delta in float32. The product rate·delta is rounded before the subtraction. There
 * is no momentum, because error feedback replaces it.
 * @returns new tensors; the arguments stay unchanged
 * @throws UPDATE_WEIGHT if the rate is not finite, UPDATE_SHAPE
 */
export function outerStep(
  adapter: readonly Float32Array[],
  delta: readonly Float32Array[],
  rate: number,
): Float32Array[] {
  const step = checkedRate(rate);
  if (
    adapter.length !== delta.length ||
    adapter.some(({ length }, tensor) => length !== delta[tensor]!.length)
  ) {
    throw updateError('UPDATE_SHAPE', 'the tensors of the delta differ from the tensors of the adapter', {
      adapter: adapter.map(({ length }) => length),
      delta: delta.map(({ length }) => length),
    });
  }
  return adapter.map((values, tensor) => {
    const change = delta[tensor]!;
    const next = new Float32Array(values.length);
    for (let index = 0; index < next.length; index++) {
      next[index] = values[index]! - Math.fround(step * change[index]!);
    }
    return next;
  });
}

/** The delta that the coordinator publishes once per round, for any number of peers. */
export interface PublishedDelta {
  readonly bytes: Uint8Array;
  /** Error feedback after this delta. Store it durably when the delta is committed; otherwise drop it. */
  readonly feedback: ErrorFeedback;
}

/**
 * Encodes rate·delta as the coordinator publishes it. The outer rate is applied here and nowhere else.
 * @param feedback error feedback with decay 1. It holds the values that the deltas of earlier rounds left out. It stays
 *   unchanged.
 * @param preset preset of the encoding. @default 'dense'
 * @throws UPDATE_WEIGHT, UPDATE_SHAPE, UPDATE_VALUES
 */
export function encodeDelta(
  feedback: ErrorFeedback,
  delta: readonly Float32Array[],
  rate: number,
  preset: Preset = 'dense',
): PublishedDelta {
  const step = checkedRate(rate);
  const next = feedback.clone();
  next.add(delta.map((values) => scaled(values, step)));
  const bytes = next.compress(preset);
  return { bytes, feedback: next };
}

/**
 * Subtracts a published delta from the adapter of the parent checkpoint. Coordinator and nodes do this with the same
 * bytes, so they get the same adapter bit for bit.
 * @returns new tensors
 * @throws the errors of `decodeUpdate`; UPDATE_SHAPE
 */
export function applyDelta(
  layout: UpdateLayout,
  adapter: readonly Float32Array[],
  bytes: Uint8Array,
  preset: Preset = 'dense',
): Float32Array[] {
  checkTensors(layout, adapter);
  const update = decodeUpdate(bytes, layout, preset);
  const next = adapter.map((values) => values.slice());
  addUpdate(next, update, -1);
  return next;
}

function scaled(values: Float32Array, factor: number): Float32Array {
  const result = new Float32Array(values.length);
  for (let index = 0; index < result.length; index++) result[index] = factor * values[index]!;
  return result;
}

function checkedRate(rate: number): number {
  if (Number.isFinite(rate)) return Math.fround(rate);
  throw updateError('UPDATE_WEIGHT', `outer rate ${rate} is not a finite number`, { rate });
}
