import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import {
  compressUpdate,
  decodeUpdate,
  Merge,
  medianNormClip,
  type Preset,
  type UpdateLayout,
  updateNorms,
} from '../../lora/update/index.ts';
import type { BenchOptions, BenchRow } from '../bench.ts';
import { cpuMilliseconds } from './cpu-time.ts';

export const name = 'merge';
export const about = 'time and memory to merge 100 updates of 5 million parameters (about 30 seconds)';

const UPDATES = 100;
const TARGET_SECONDS = 3;
/**
 * Limit in MB on the growth of memory between the tenth and the last update of a merge. The limit allows for noise of the
 * heap. A merge that kept the updates in memory would grow by 45 MB.
 */
const TARGET_GROWTH_MB = 1;
/**
 * Maximum number of garbage collections before a reading. Several are needed until the memory is stable, because some
 * buffers that one collection leaves behind are freed by the next.
 */
const MAX_COLLECTIONS = 10;
/** Two readings of the memory count as equal if they differ by fewer bytes than this. */
const SAME_BYTES = 10_000;
/**
 * Number of different updates. All other updates are copies of these updates under other peer ids. A merge
 * has as much work with copies as with different updates.
 */
const DISTINCT = 10;
/** Number of measurements. The fastest one counts, because other load can only add time. */
const REPEATS = 3;
/** The adapter of a 135M-parameter Llama at rank 16: 30 layers of seven modules, 4.9 million parameters. */
const SHAPES = [
  ...[576, 576, 576, 576, 576, 576, 1536].map((columns) => [16, columns]),
  ...[576, 192, 192, 576, 1536, 1536, 576].map((rows) => [rows, 16]),
] as const;
const LAYERS = 30;

export async function run(report: (row: BenchRow) => void, options: BenchOptions): Promise<void> {
  const repeats = options.quick ? 1 : REPEATS;
  const layout: UpdateLayout = Array.from({ length: LAYERS }, (_, layer) =>
    SHAPES.map((shape, module) => ({ name: `${layer}.${module}`, shape: [...shape] })),
  ).flat();
  const parameters = layout.reduce((sum, { shape }) => sum + shape[0]! * shape[1]!, 0);
  const what = `${UPDATES} synthetic updates of ${(parameters / 1e6).toFixed(2)}M parameters, including decoding`;
  for (const preset of ['balanced', 'dense'] as const) {
    options.log(`merge: encoding ${DISTINCT} ${preset} updates`);
    const encoded = Array.from(
      { length: DISTINCT },
      (_, seed) => compressUpdate(layout, heavyTailed(layout, seed), preset).bytes,
    );
    const best = (clip: boolean) =>
      Math.min(...Array.from({ length: repeats }, () => mergeAll(layout, encoded, preset, clip)));
    const [plain, robust] = [best(false), best(true)];
    const growth = retainedGrowth(layout, encoded, preset);
    const row = (label: string, value: number, unit: string, target: number | null, reference: string) => {
      const met = target === null ? null : value <= target;
      report({ name: `merge ${preset} ${label}`, value, unit, target, met, reference });
    };
    row('time', plain, 'CPU s', TARGET_SECONDS, what);
    row('time with norm clip', robust, 'CPU s', null, `${what} each twice, for the norms and for the sums`);
    row(
      'growth',
      growth,
      'MB',
      TARGET_GROWTH_MB,
      `live memory after update ${UPDATES} minus after update 10`,
    );
  }
}

function mergeAll(
  layout: UpdateLayout,
  encoded: readonly Uint8Array[],
  preset: Preset,
  clip: boolean,
): number {
  const started = cpuMilliseconds();
  const decode = (peer: number) => decodeUpdate(encoded[peer % DISTINCT]!, layout, preset);
  const peers = [...Array(UPDATES).keys()];
  const scales = clip ? medianNormClip(peers.map((peer) => updateNorms(decode(peer)))) : null;
  const merge = new Merge({ layout });
  for (const peer of peers) merge.add(contribution(peer, decode(peer), scales?.[peer]));
  merge.finish();
  return (cpuMilliseconds() - started) / 1000;
}

function contribution(peer: number, update: ReturnType<typeof decodeUpdate>, scale?: Float32Array) {
  return { peer: String(peer).padStart(3, '0'), weight: 1000 + peer, update, ...(scale ? { scale } : {}) };
}

/** Returns the growth of live objects and buffers from the tenth update to the last, in MB. */
function retainedGrowth(layout: UpdateLayout, encoded: readonly Uint8Array[], preset: Preset): number {
  const held = liveBytes();
  const merge = new Merge({ layout });
  let early = 0;
  for (let peer = 0; peer < UPDATES; peer++) {
    merge.add(contribution(peer, decodeUpdate(encoded[peer % DISTINCT]!, layout, preset)));
    if (peer === 9) early = held();
  }
  const late = held();
  merge.finish();
  return (late - early) / 1e6;
}

/**
 * Returns a function that measures the reachable heap and buffers. V8 frees dead buffers in the background,
 * so a reading right after a collection may still count the last updates. The function therefore collects
 * garbage until two readings are equal.
 */
function liveBytes(): () => number {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  return () => {
    let before = Number.POSITIVE_INFINITY;
    for (let collection = 0; collection < MAX_COLLECTIONS; collection++) {
      collect();
      const { heapUsed, arrayBuffers } = process.memoryUsage();
      const now = heapUsed + arrayBuffers;
      if (Math.abs(before - now) < SAME_BYTES) return now;
      before = now;
    }
    return before;
  };
}

/**
 * Returns deterministic values with the heavy tails of pseudo-gradients: the cubes of numbers from a linear
 * congruential generator.
 */
function heavyTailed(layout: UpdateLayout, seed: number): Float32Array[] {
  let state = (seed + 1) * 2654435761;
  return layout.map(({ shape }) =>
    Float32Array.from({ length: shape[0]! * shape[1]! }, () => {
      // Constants of Numerical Recipes, 3rd edition, 7.1.
      state = (Math.imul(state, 1664525) + 1013904223) | 0;
      return 1e-3 * (state / 2 ** 31) ** 3;
    }),
  );
}
