import { requireDType, type Tensor } from '../graph.ts';
import { shapeError } from '../shapes.ts';
import { negate } from './elementwise.ts';

/**
 * Rotary position embedding (Su et al. 2021, arXiv 2104.09864) in the rotate-half layout of Llama: rotates the pair
 * (x[i], x[i + D/2]) of token t by the angle whose cosine and sine are in row positions[t] of the tables.
 * x [B, H, T, D], positions [B, T] int64, cos and sin [P, D/2] → [B, H, T, D]. The inverse of a rotation is the rotation
 * by the negative angle, so the gradient is the same operation with −sin. Tables and positions are not trainable.
 * @throws SwarmError GRAPH_SHAPE
 */
export function rotaryEmbedding(x: Tensor, positions: Tensor, cos: Tensor, sin: Tensor): Tensor {
  requireDType('rotaryEmbedding', x, 'float32');
  requireDType('rotaryEmbedding', positions, 'int64');
  requireDType('rotaryEmbedding', cos, 'float32');
  requireDType('rotaryEmbedding', sin, 'float32');
  const [batch, , length, width] = x.shape;
  if (x.shape.length !== 4 || width! % 2 !== 0) {
    throw shapeError('rotaryEmbedding', 'x must be [batch, heads, tokens, even width]', x.shape);
  }
  if (positions.shape.join() !== `${batch},${length}`) {
    throw shapeError('rotaryEmbedding', 'positions must be [batch, tokens]', x.shape, positions.shape);
  }
  for (const table of [cos, sin]) {
    if (table.shape.length !== 2 || table.shape[1] !== width! / 2 || table.shape[0] !== cos.shape[0]) {
      throw shapeError('rotaryEmbedding', 'tables must be [positions, width / 2]', x.shape, table.shape);
    }
  }
  return x.graph.apply('rotary', [x, positions, cos, sin], {}, [{ shape: x.shape }], (backward) =>
    backward.add(0, () => rotaryEmbedding(backward.gradient, positions, cos, negate(sin))),
  )[0]!;
}
