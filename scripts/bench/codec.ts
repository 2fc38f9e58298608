import { CHUNK_VALUES, golombDivisor, remainderBits } from '../../lora/update/format.ts';
import {
  compressUpdate,
  decodeUpdate,
  PRESET_NAMES,
  PRESETS,
  type Preset,
  type SparseUpdate,
  type UpdateLayout,
} from '../../lora/update/index.ts';
import type { BenchOptions, BenchRow } from '../bench.ts';
import { cpuMilliseconds } from './cpu-time.ts';
import { pseudoGradients } from './pseudo-gradients.ts';

export const name = 'codec';
export const about = 'time, size and error of real updates, encoded with every preset (about 30 seconds)';

const PARAMETERS = 5_000_000;
/**
 * Limit on the processor time that encoding and decoding PARAMETERS parameters take together, on one core.
 */
const TARGET_MILLISECONDS = 150;
const TARGET_BYTES: Record<Preset, number> = { tiny: 0.0195, balanced: 0.059, quality: 0.101, dense: 0.51 };
/** Limit on the percentage by which the bits of an index may exceed the bound log₂ C(n, k) / k. */
const TARGET_OVERHEAD = 3;
/** Number of measurements. The fastest one counts, because other load can only add time. */
const REPEATS = 9;
const ROUNDS = 16;
const QUICK_ROUNDS = 2;

export async function run(report: (row: BenchRow) => void, options: BenchOptions): Promise<void> {
  const count = options.quick ? QUICK_ROUNDS : ROUNDS;
  const { layout, tensors } = await joinedRounds(count, options.log);
  const parameters = tensors.reduce((sum, { length }) => sum + length, 0);
  const data = `${count} rounds of models/nano on Moby Dick, ${(parameters / 1e6).toFixed(1)}M parameters`;
  for (const preset of PRESET_NAMES) {
    let [encode, decode] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
    for (let repeat = 0; repeat < REPEATS; repeat++) {
      const started = cpuMilliseconds();
      const { bytes } = compressUpdate(layout, tensors, preset);
      const encoded = cpuMilliseconds();
      decodeUpdate(bytes, layout, preset);
      decode = Math.min(decode, cpuMilliseconds() - encoded);
      encode = Math.min(encode, encoded - started);
    }
    const { bytes, update } = compressUpdate(layout, tensors, preset);
    const row = (what: string, value: number, unit: string, target: number | null, reference: string) =>
      report({
        name: `codec ${preset} ${what}`,
        value,
        unit,
        target,
        met: target === null ? null : value <= target,
        reference,
      });
    const time = ((encode + decode) * PARAMETERS) / parameters;
    const split = `encode ${encode.toFixed(1)} + decode ${decode.toFixed(1)} ms for ${data}`;
    row('time', time, 'CPU ms per 5M parameters', TARGET_MILLISECONDS, split);
    row('size', bytes.length / parameters, 'B per parameter', TARGET_BYTES[preset], data);
    if (PRESETS[preset].kept !== null) {
      const { overhead, reference } = indexOverhead(update, layout);
      row('index overhead', overhead, '%', TARGET_OVERHEAD, reference);
    }
    row('error', 100 * relativeError(tensors, update), '% of the energy of the kept values', null, data);
  }
}

/** Joins the pseudo-gradients of all rounds into one large adapter, so that coding it takes long enough to be timed. */
async function joinedRounds(count: number, log: (line: string) => void) {
  const { layout, rounds } = await pseudoGradients(count, log);
  const large: UpdateLayout = rounds.flatMap((_, round) =>
    layout.map(({ name: tensor, shape }) => ({ name: `round ${round} ${tensor}`, shape })),
  );
  return { layout: large, tensors: rounds.flat() };
}

/**
 * Compares the number of bits of the coded indices with the information-theoretic minimum. Returns both numbers, and the
 * excess over the minimum in percent. Only full chunks count, because the minimum of a short chunk includes edge effects
 * that no code can use.
 */
function indexOverhead({ preset, tensors }: SparseUpdate, layout: UpdateLayout) {
  const kept = PRESETS[preset].kept!;
  const divisor = golombDivisor(CHUNK_VALUES, kept);
  const longest = remainderBits(divisor);
  const short = 2 ** longest - divisor;
  let bits = 0;
  let values = 0;
  for (const [tensor, { indices }] of tensors.entries()) {
    const [rows = 1, columns = 1] = layout[tensor]!.shape;
    const full = Math.floor((rows * columns) / CHUNK_VALUES) * CHUNK_VALUES;
    let expected = 0;
    for (const index of indices!) {
      if (index >= full) break;
      const gap = index - Math.max(expected, index - (index % CHUNK_VALUES));
      expected = index + 1;
      bits += 1 + Math.floor(gap / divisor) + (gap % divisor < short ? longest - 1 : longest);
      values++;
    }
  }
  let bound = 0;
  for (let i = 0; i < kept; i++) bound += Math.log2((CHUNK_VALUES - i) / (kept - i));
  const [spent, least] = [bits / values, bound / kept];
  return {
    overhead: 100 * (spent / least - 1),
    reference: `${spent.toFixed(3)} bits per value, log2 C(4096, ${kept}) / ${kept} = ${least.toFixed(3)}`,
  };
}

function relativeError(tensors: readonly Float32Array[], update: SparseUpdate): number {
  let error = 0;
  let energy = 0;
  for (const [tensor, { indices, values }] of update.tensors.entries()) {
    for (let entry = 0; entry < values.length; entry++) {
      const wanted = tensors[tensor]![indices === null ? entry : indices[entry]!]!;
      error += (wanted - values[entry]!) ** 2;
      energy += wanted ** 2;
    }
  }
  return error / energy;
}
