import { createHash } from 'node:crypto';
import { SwarmError } from '../../protocol/errors.ts';
import { elementCount } from '../graph/shapes.ts';
import { magnitudeName, matrixName } from '../models/lora.ts';
import type { ModelShape } from '../models/targets.ts';
import type { LoraConfig } from './config.ts';
import { type AdapterPlan, adapterPlan } from './plan.ts';
import { philox } from './random.ts';

export type { LoraConfig } from './config.ts';

/** What a tensor of an adapter is: rates and weight decay may differ by it. */
export type AdapterGroup = 'A' | 'B' | 'magnitude' | 'bias' | 'saved';

/**
 * One tensor of an adapter: `….lora_A.weight` [r, in], `….lora_B.weight` [out, r] (of an embedding `lora_embedding_A`
 * [r, vocabulary] and `lora_embedding_B` [width, r]), DoRA's
 * `….lora_magnitude_vector` [out], a trained bias [out], or a parameter of a module that is saved whole.
 */
export interface AdapterTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly group: AdapterGroup;
  /** On A and B of a module whose weight lies on disk as [in, out]. */
  readonly conv1d?: true;
}

/** The tensors of an adapter sorted by name: the order in which every part of the system keeps their values. */
export type AdapterLayout = readonly AdapterTensor[];

/**
 * @throws SwarmError LORA_* the configuration does not fit the model
 */
export function adapterLayout(model: ModelShape, lora: LoraConfig): AdapterLayout {
  return planLayout(adapterPlan(model, lora), lora);
}

/** The layout of an adapter whose plan is known. */
export function planLayout(plan: AdapterPlan, lora: Pick<LoraConfig, 'useDora'>): AdapterLayout {
  const matrices = plan.modules.flatMap((module): AdapterTensor[] => {
    const { in: width, out, rank, conv1d, embedding } = module;
    const kind = conv1d && !embedding ? { conv1d } : {};
    return [
      { name: matrixName(module, 'A'), shape: [rank, width], group: 'A', ...kind },
      { name: matrixName(module, 'B'), shape: [out, rank], group: 'B', ...kind },
    ];
  });
  const magnitudes = lora.useDora
    ? plan.modules.map(({ name, out }) => ({
        name: magnitudeName(name),
        shape: [out],
        group: 'magnitude' as const,
      }))
    : [];
  const copies = plan.copies.map(({ tensor, shape, group }) => ({ name: tensor, shape, group }));
  return [...matrices, ...magnitudes, ...copies].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Number of values in an adapter. */
export function adapterSize(layout: AdapterLayout): number {
  return layout.reduce((sum, { shape }) => sum + elementCount(shape), 0);
}

/**
 * The random start of an adapter's matrices. Values depend on the seed, the tensor's name and the position alone: the
 * same on every machine, whatever other modules carry an adapter. By `init`, as PEFT's `init_lora_weights`:
 * - true: A uniform in ±1/√in (Kaiming-uniform with a = √5), B zero, so that training starts at the base exactly
 * - 'gaussian': A normal with a standard deviation of 1/r, B zero
 * - false: A as for true, B uniform in ±1/√r
 * Of an embedding, A is zero (normal for false) and B normal with a standard deviation of 1.
 *
 * @param seed whole number below 2^53
 * @returns values in layout order
 * @throws SwarmError ADAPTER_INIT the layout has tensors that start from the base's weights: see initialAdapter
 */
export function initAdapter(
  layout: AdapterLayout,
  seed: number,
  init: LoraConfig['initLoraWeights'] = true,
): Float32Array[] {
  const other = layout.find(({ group }) => group !== 'A' && group !== 'B');
  if (other)
    throw new SwarmError(
      'ADAPTER_INIT',
      `${other.name} starts from the base's weights, and only the layout was given; use initialAdapter`,
      { tensor: other.name },
    );
  return layout.map((tensor) => randomMatrix(tensor, seed, init));
}

/** One A or B of initAdapter. */
export function randomMatrix(
  { name, shape, group }: AdapterTensor,
  seed: number,
  init: LoraConfig['initLoraWeights'],
): Float32Array {
  if (!Number.isSafeInteger(seed) || seed < 0)
    throw new SwarmError('SEED', `the seed is ${seed}, expected a whole number from 0 to 2^53 − 1`, { seed });
  const values = new Float32Array(elementCount(shape));
  const embedding = name.includes('.lora_embedding_');
  if (init !== false && group === (embedding ? 'A' : 'B')) return values;
  const key = [seed >>> 0, Math.floor(seed / 2 ** 32)] as const;
  const digest = createHash('sha256').update(name).digest();
  const stream = [digest.readUInt32LE(0), digest.readUInt32LE(4)] as const;
  const [rows, columns] = shape as [number, number];
  const bound = 1 / Math.sqrt(columns);
  for (let i = 0; i < values.length; i += 4) {
    const words = philox([i / 4, 0, stream[0], stream[1]], key);
    // The upper 24 bits, as many as a float32 holds, centred: never exactly ±1.
    const centred = words.map((word) => ((word >>> 8) + 0.5) / 2 ** 23 - 1);
    const four = embedding
      ? normals(centred)
      : init === 'gaussian'
        ? normals(centred).map((normal) => normal / rows)
        : centred.map((u) => bound * u);
    values.set(four.slice(0, values.length - i), i);
  }
  return values;
}

/** Pairs of numbers uniform in ±1 → as many normal ones (Box & Muller 1958). */
function normals(centred: readonly number[]): number[] {
  return centred.map((value, j) => {
    const [radius, angle] = j % 2 === 0 ? [value, centred[j + 1]!] : [centred[j - 1]!, value];
    const length = Math.sqrt(-2 * Math.log((radius + 1) / 2));
    return length * (j % 2 === 0 ? Math.cos(Math.PI * angle) : Math.sin(Math.PI * angle));
  });
}
