import { requireDType, type Tensor } from '../graph.ts';
import { shapeError } from '../shapes.ts';

/**
 * Added to the scores of tokens that must not be seen. Finite, so that no executor meets ∞ − ∞; far below
 * any score, so that softmax gives 0 in float32. (onnxruntime's on the processor gives up to 10⁻³⁸ for anything that is
 * farther below, which its sessions take for 0 on x86.)
 */
export const MASKED = -1e9;

/**
 * What attention adds to its scores so that a token sees itself and the tokens before it in its own segment, with a
 * window at most the last `window` of them (itself included): 0 where row i sees column j, {@link MASKED} elsewhere.
 *
 * Positions are counted from 0 at the start of each segment, so token i of a row sees j exactly if
 * i − min(positions[i], window − 1) ≤ j ≤ i.
 *
 * positions [B, T] int64 → [B, 1, 1, T, T]. Made in the graph, it costs no feed of T² values per row.
 * @param window tokens; null for no limit
 * @throws SwarmError GRAPH_SHAPE
 */
export function causalMask(positions: Tensor, window: number | null = null): Tensor {
  requireDType('causalMask', positions, 'int64');
  const [batch, length] = positions.shape;
  if (positions.shape.length !== 2 || (window !== null && !(Number.isInteger(window) && window > 0))) {
    throw shapeError(
      'causalMask',
      `positions [rows, tokens] and a window from 1 are needed`,
      positions.shape,
    );
  }
  const index = BigInt64Array.from({ length: length! }, (_, i) => BigInt(i));
  // A window that reaches over whole rows is none: layers with and without it then share one mask.
  const limit = window !== null && window < length! ? window : null;
  return positions.graph.apply(
    'causalMask',
    [positions, positions.graph.constant([length!], index)],
    { window: limit },
    [{ shape: [batch!, 1, 1, length!, length!] }],
    null,
  )[0]!;
}
