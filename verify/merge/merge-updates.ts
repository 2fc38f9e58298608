import { decodeAdapter, encodeAdapter } from '../../lora/adapter/codec.ts';
import {
  applyDelta,
  decodeUpdate,
  drift,
  ErrorFeedback,
  encodeDelta,
  Merge,
  medianNormClip,
  type Preset,
  planLayout,
  type SparseUpdate,
  type UpdateLayout,
  updateNorms,
  weightedMedian,
} from '../../lora/update/index.ts';
import { RESIDUAL_BYTES, UPDATE_BYTES } from '../../protocol/limits.ts';
import { votesOf, type Weighable, weighUpdates } from './update-weights.ts';

/** An accepted update, with the digest of its payload and the facts that decide its weight. */
export interface MergeSource extends Weighable {
  readonly peer: string;
  /** Digest of the payload's blob. */
  readonly digest: string;
  readonly size: number;
  readonly preset: Preset;
}

export interface MergeInput {
  readonly layout: UpdateLayout;
  readonly baseDigest: string;
  /** The round that is merged. The staleness of an update is this number minus the update's round. */
  readonly round: number;
  /** The updates to merge, sorted by peer, then by round. All sums are computed in this order. */
  readonly sources: readonly MergeSource[];
  readonly rate: number;
  readonly denominatorFloor: number;
  /** Blob of the parent's adapter. */
  readonly adapter: { readonly digest: string; readonly size: number };
  /** Digest of the residual that is added to this merge; null if there is none. */
  readonly residual: string | null;
  /**
   * The weight of each source in a signed checkpoint. A witness that computes a merge again takes the weights from the
   * checkpoint, because it does not know which person answers for a node. @default computed by `weighUpdates`
   */
  readonly weights?: readonly number[];
}

/** An update that went into a merge. */
export interface MergedUpdate {
  readonly peer: string;
  readonly round: number;
  readonly digest: string;
  readonly tokens: number;
  readonly weight: number;
  /** Euclidean norm over all tensors, before clipping. */
  readonly norm: number;
}

export interface Merged {
  /** The merged adapter, as the bytes of an `adapter_model.safetensors`. */
  readonly adapter: Uint8Array;
  /**
   * The step from the parent's adapter to `adapter`, as an encoded dense update. Applying the step gives exactly the
   * bits of `adapter`.
   */
  readonly delta: Uint8Array;
  /** The delta's quantisation error, added to the next round's delta. */
  readonly residual: Uint8Array;
  readonly contributors: readonly MergedUpdate[];
  readonly outliers: readonly MergeSource[];
  /** Disagreement of the updates (see `drift` in lora/update); null if the merge has fewer than two contributors. */
  readonly drift: number | null;
}

/** Reads a blob and verifies its digest. */
export type ReadBlob = (digest: string, maxBytes: number) => Promise<Uint8Array>;

/**
 * An update whose norm exceeds this multiple of the round's median norm is refused instead of clipped. The norms of
 * honest nodes differ by less than a factor of ten. They differ because the numbers of steps differ (up to threefold),
 * and because the nodes have accumulated different error feedback.
 */
export const OUTLIER_FACTOR = 30;
/** Minimum number of updates for finding outliers. With fewer, the median does not show which update is the outlier. */
export const OUTLIER_UPDATES = 3;
/** Maximum number of updates on which drift is measured, because all of them are in memory at once. */
export const DRIFT_UPDATES = 8;

/**
 * Merges a round's updates and applies the step to the adapter.
 *
 * Every tensor of an update is clipped to the median of this tensor's norms in all updates. The median is weighted by
 * the weights of the updates in the merge (see `weighUpdates`). Then the updates are averaged with these weights. The
 * divisor of each value is at least `denominatorFloor` times the total weight. All sums are computed in float32 and in
 * the given order. The mean times `rate` is quantised for publication, with error feedback of decay 1.
 *
 * The result depends only on the input, so any peer that has the blobs can compute the same bits. Each update is read
 * twice. Only one update is in memory at a time, apart from the updates on which drift is measured.
 */
export async function mergeUpdates(input: MergeInput, read: ReadBlob): Promise<Merged> {
  const { layout } = input;
  const load = async (source: MergeSource): Promise<SparseUpdate> =>
    decodeUpdate(await read(source.digest, UPDATE_BYTES), layout, source.preset);

  const norms = new Map<MergeSource, Float64Array>();
  for (const source of input.sources) norms.set(source, updateNorms(await load(source)));
  // If the weights come from a checkpoint, the sources are its contributors, from which the coordinator has
  // already left out the outliers.
  const outliers = input.weights
    ? []
    : findOutliers(input.sources, (source) => euclideanNorm(norms.get(source)!));
  const sources = input.sources.filter((source) => !outliers.includes(source));

  const computed = input.weights ? null : weighUpdates(sources, input.round);
  const weights = sources.map(
    (source, i) => computed?.[i] ?? Math.fround(input.weights![input.sources.indexOf(source)]!),
  );
  const weighty = sources.filter((_, i) => weights[i]! > 0);
  const clips = medianNormClip(
    weighty.map((source) => norms.get(source)!),
    weights.filter((weight) => weight > 0),
  );
  const scales = new Map(weighty.map((source, i) => [source, clips[i]!]));
  const merge = new Merge({ layout, denominatorFloor: input.denominatorFloor });
  const sampled: { update: SparseUpdate; weight: number }[] = [];
  for (const [i, source] of sources.entries()) {
    const update = await load(source);
    const scale = scales.get(source);
    merge.add({
      peer: source.peer,
      round: source.round,
      weight: weights[i]!,
      update,
      ...(scale && { scale }),
    });
    if (scale && sampled.length < DRIFT_UPDATES) sampled.push({ update, weight: weights[i]! });
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
      norm: euclideanNorm(norms.get(source)!),
    })),
    outliers,
    drift: driftOf(layout, parent, sampled),
  };
}

function driftOf(
  layout: UpdateLayout,
  parent: Float32Array[],
  sampled: readonly { update: SparseUpdate; weight: number }[],
): number | null {
  if (sampled.length < 2) return null;
  const updates = sampled.map(({ update }) => update);
  return drift(
    layout,
    parent,
    updates,
    sampled.map(({ weight }) => weight),
  ).rho;
}

/** Returns the number of values that a merge processes. If it is large, the caller runs the merge in another thread. */
export function mergedValues(layout: UpdateLayout, updates: number): number {
  return planLayout(layout).parameters * (updates + 1);
}

/**
 * Finds the outliers. Repeats the search until it finds no more, because each removal changes the median. The median is
 * weighted like the medians of `weighUpdates`, so that a crowd of newcomers with tiny updates cannot make the updates
 * of honest nodes look like outliers.
 */
function findOutliers(all: readonly MergeSource[], norm: (source: MergeSource) => number): MergeSource[] {
  const outliers: MergeSource[] = [];
  for (;;) {
    const rest = all.filter((source) => !outliers.includes(source));
    if (rest.length < OUTLIER_UPDATES) return outliers;
    const median = weightedMedian(rest.map(norm), votesOf(rest));
    const found = rest.filter((source) => median > 0 && norm(source) > OUTLIER_FACTOR * median);
    if (found.length === 0) return outliers;
    outliers.push(...found);
  }
}

function euclideanNorm(norms: Float64Array): number {
  let sum = 0;
  for (const norm of norms) sum += norm * norm;
  return Math.sqrt(sum);
}
