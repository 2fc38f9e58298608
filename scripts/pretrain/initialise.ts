/** Initial weights for pretraining. */
import { SeededRandom } from '../../lora/data/seeded-random.ts';
import type { Parameter } from '../../lora/models/architecture.ts';

/**
 * Returns initial weights: 1 for norms and N(0, deviation²) for matrices. As in GPT-2, the two matrices of each block
 * that write into the residual stream are divided by √(2·layers), so that the variance of the stream does not grow with
 * depth.
 */
export function initialWeights(
  parameters: readonly Parameter[],
  { layers, deviation, seed }: { layers: number; deviation: number; seed: number },
): Float32Array[] {
  return parameters.map(({ name, shape }, index) => {
    const weights = new Float32Array(shape.reduce((a, b) => a * b, 1));
    if (shape.length === 1) return weights.fill(1);
    const writesResidual = name.endsWith('o_proj.weight') || name.endsWith('down_proj.weight');
    const sigma = writesResidual ? deviation / Math.sqrt(2 * layers) : deviation;
    const random = new SeededRandom(seed, index);
    for (let i = 0; i < weights.length; i++) weights[i] = sigma * random.normal();
    return weights;
  });
}
