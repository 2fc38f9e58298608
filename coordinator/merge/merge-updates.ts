import { decodeAdapter, encodeAdapter } from '../../lora/adapter/codec.ts';
import type { AdapterLayout } from '../../lora/adapter/layout.ts';
import {
  applyDelta,
  capWeights,
  decodeUpdate,
  drift,
  ErrorFeedback,
  encodeDelta,
  Merge,
  medianNormClip,
  type Preset,
  planLayout,
  type SparseUpdate,
  stalenessWeight,
  updateNorms,
} from '../../lora/update/index.ts';
import { ADAPTER_BYTES, UPDATE_BYTES } from '../../protocol/limits.ts';

/** One recorded update: where its payload lies and what its author said about it. */
export interface MergeSource {
  readonly peer: string;
  /** The round it was made for. */
  readonly round: number;
  /** Blob of the payload. */
  readonly digest: string;
  readonly size: number;
  readonly preset: Preset;
  readonly tokens: number;
}

export interface MergeInput {
  readonly layout: AdapterLayout;
  readonly baseDigest: string;
  /** Round that is being merged: staleness counts from it. */
  readonly round: number;
  /** Sorted by peer, then round: the order of all sums. */
  readonly sources: readonly MergeSource[];
  readonly rate: number;
  readonly denominatorFloor: number;
  /** Blobs of the parent's adapter and of the downlink's residual (null: zero). */
  readonly adapter: { readonly digest: string; readonly size: number };
  readonly residual: string | null;
}

export interface Contributor {
  readonly peer: string;
  readonly round: number;
  readonly digest: string;
  readonly tokens: number;
  readonly weight: number;
  /** Euclidean norm over all tensors, before clipping. */
  readonly norm: number;
}

export interface Merged {
  /** The next adapter: `adapter_model.safetensors`. */
  readonly adapter: Uint8Array;
  /** What leads to it from the parent, to the last bit: an encoded dense update. */
  readonly delta: Uint8Array;
  /** What the delta's quantisation left over, for the next round. */
  readonly residual: Uint8Array;
  readonly contributors: readonly Contributor[];
  readonly outliers: readonly MergeSource[];
  /** See `drift` in lora/update; null with fewer than two contributors. */
  readonly drift: number | null;
}

/** Reads a blob whose digest has been checked. */
export type ReadBlob = (digest: string, maxBytes: number) => Promise<Uint8Array>;

/**
 * An update whose norm is this many times the median of the round's is refused instead of clipped: honest nodes differ
 * by their steps (threefold) and what their error feedback has saved up, not by more than an order of magnitude.
 */
export const OUTLIER_FACTOR = 30;
/** With fewer updates than this nobody can say which of them is out of line. */
export const OUTLIER_UPDATES = 3;
/** Drift is measured on at most this many updates, because all of them are in memory at once. */
export const DRIFT_UPDATES = 8;
/** A stored residual is as large as the adapter, with a checksum and a layout digest before it. */
const RESIDUAL_BYTES = ADAPTER_BYTES + 64;

/**
 * Merges a round: tokens capped at twice their median × (1+τ)^−½, every tensor clipped to the median norm, summed in
 * fp32 in the given order over a floored denominator, stepped at `rate`, and quantised for the downlink with error
 * feedback that loses nothing. Depends on nothing but its input: anybody who has the blobs gets the same bits. Updates
 * are read one at a time, twice.
 */
export async function mergeUpdates(input: MergeInput, read: ReadBlob): Promise<Merged> {
  const { layout } = input;
  const load = async (source: MergeSource): Promise<SparseUpdate> =>
    decodeUpdate(await read(source.digest, UPDATE_BYTES), layout, source.preset);

  const norms = new Map<MergeSource, Float64Array>();
  for (const source of input.sources) norms.set(source, updateNorms(await load(source)));
  const outliers = findOutliers(input.sources, (source) => length(norms.get(source)!));
  const sources = input.sources.filter((source) => !outliers.includes(source));

  const caps = capWeights(sources.map(({ tokens }) => tokens));
  const weights = sources.map(({ round }, i) =>
    Math.fround(caps[i]! * stalenessWeight(Math.max(0, input.round - round))),
  );
  const scales = medianNormClip(sources.map((source) => norms.get(source)!));
  const merge = new Merge({ layout, denominatorFloor: input.denominatorFloor });
  const sampled: SparseUpdate[] = [];
  for (const [i, source] of sources.entries()) {
    const update = await load(source);
    merge.add({ peer: source.peer, round: source.round, weight: weights[i]!, update, scale: scales[i]! });
    if (sampled.length < DRIFT_UPDATES) sampled.push(update);
  }
  const delta = merge.finish();

  const parent = decodeAdapter(await read(input.adapter.digest, input.adapter.size), layout);
  const options = { layout, decay: 1 };
  const before =
    input.residual === null
      ? new ErrorFeedback(options)
      : ErrorFeedback.decode(await read(input.residual, RESIDUAL_BYTES), options);
  const { bytes, feedback } = encodeDelta(before, delta, input.rate);
  return {
    adapter: encodeAdapter(layout, applyDelta(layout, parent, bytes), input.baseDigest),
    delta: bytes,
    residual: feedback.encode(),
    contributors: sources.map((source, i) => ({
      peer: source.peer,
      round: source.round,
      digest: source.digest,
      tokens: source.tokens,
      weight: weights[i]!,
      norm: length(norms.get(source)!),
    })),
    outliers,
    drift: sampled.length > 1 ? drift(layout, parent, sampled, weights.slice(0, sampled.length)).rho : null,
  };
}

/** Checks a payload as the merge will read it. @throws SwarmError UPDATE_* */
export function checkPayload(bytes: Uint8Array, layout: AdapterLayout, preset: Preset): void {
  decodeUpdate(bytes, layout, preset);
}

/** Values that a merge goes through: decides whether it would hold up an event loop. */
export function mergeWork(layout: AdapterLayout, updates: number): number {
  return planLayout(layout).parameters * (updates + 1);
}

/** Out of line until no one is: taking one out moves the median, and the rest must stand on its own when recomputed. */
function findOutliers(all: readonly MergeSource[], norm: (source: MergeSource) => number): MergeSource[] {
  const outliers: MergeSource[] = [];
  for (;;) {
    const rest = all.filter((source) => !outliers.includes(source));
    if (rest.length < OUTLIER_UPDATES) return outliers;
    const sorted = rest.map(norm).sort((a, b) => a - b);
    const median = sorted[(sorted.length - 1) >> 1]!;
    const found = rest.filter((source) => median > 0 && norm(source) > OUTLIER_FACTOR * median);
    if (found.length === 0) return outliers;
    outliers.push(...found);
  }
}

function length(norms: Float64Array): number {
  let sum = 0;
  for (const norm of norms) sum += norm * norm;
  return Math.sqrt(sum);
}
