import { requireDType, type Tensor } from '../graph.ts';
import { shapeError } from '../shapes.ts';

/**
 * Value added to the scores of masked tokens. It is finite, so that no engine computes ∞ − ∞, and far below any score,
 * so that softmax gives 0 in float32. (onnxruntime's softmax on the processor gives up to 10⁻³⁸ instead, which our
 * sessions set to 0 on x86.)
 */
export const MASKED = -1e9;

/**
 * Mask that attention adds to its scores: 0 where token i sees token j, {@link MASKED} elsewhere. A token sees itself
 * and the earlier tokens of its segment; with a window, only the last `window` of them, including itself.
 *
 * Positions count from 0 at the start of each segment, so token i of a row sees token j exactly if
 * i − min(positions[i], window − 1) ≤ j ≤ i.
 *
 * positions [B, T] int64 → [B, 1, 1, T, T]. Computing it in the graph saves feeding T² values per row.
 * @param window tokens; null for no limit
 * @throws SwarmError GRAPH_SHAPE
 */
export function causalMask(positions: Tensor, window: number | null = null): Tensor {
  requireDType('causalMask', positions, 'int64');
  const [batch, length] = positions.shape;
  if (positions.shape.length !== 2 || (window !== null && !(Number.isInteger(window) && window > 0))) {
    throw shapeError(
      'causalMask',
      `it needs positions [rows, tokens] and a window of at least 1, not ${window}`,
      positions.shape,
    );
  }
  const index = BigInt64Array.from({ length: length! }, (_, i) => BigInt(i));
  // A window as long as a row hides nothing, so it is left out. Layers with and without a window then share one mask.
  const limit = window !== null && window < length! ? window : null;
  return positions.graph.apply(
    'causalMask',
    [positions, positions.graph.constant([length!], index)],
    { window: limit },
    [{ shape: [batch!, 1, 1, length!, length!] }],
    null,
  )[0]!;
}
