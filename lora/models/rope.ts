import type { Llama3Scaling, RopeConfig, YarnScaling } from './rope-config.ts';

/**
 * Returns the angular frequencies of the rotary embedding, one per pair of head dimensions: ω_i = θ^(−2i/D), then scaled
 * as the config says (transformers' modeling_rope_utils).
 *
 * @returns D/2 frequencies in radians per position
 */
export function inverseFrequencies({ theta, scaling }: RopeConfig, headDim: number): Float64Array {
  const plain = Float64Array.from({ length: headDim / 2 }, (_, i) => theta ** ((-2 * i) / headDim));
  if (scaling === null) return plain;
  if (scaling.type === 'linear') return plain.map((frequency) => frequency / scaling.factor);
  if (scaling.type === 'llama3') return plain.map((frequency) => scaleLlama3(frequency, scaling));
  const kept = yarnKept(theta, headDim, scaling);
  return plain.map((frequency, i) => frequency * (kept(i) + (1 - kept(i)) / scaling.factor));
}

/**
 * Llama 3.1 (model card): with wavelength λ = 2π/ω and original context L, ω is kept if λ < L/high, divided by `factor` if
 * λ > L/low, and interpolated linearly in L/λ in between.
 */
function scaleLlama3(frequency: number, scaling: Llama3Scaling): number {
  const { factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalMaxPositions } = scaling;
  const wavelength = (2 * Math.PI) / frequency;
  if (wavelength < originalMaxPositions / high) return frequency;
  if (wavelength > originalMaxPositions / low) return frequency / factor;
  const blend = (originalMaxPositions / wavelength - low) / (high - low);
  return (1 - blend) * (frequency / factor) + blend * frequency;
}

/**
 * YaRN (Peng et al. 2023, arXiv 2309.00071) mixes the unscaled frequency with the frequency divided by
 * `factor`. Returns a function that gives the share of the unscaled frequency for the pair i of dimensions.
 * The share falls linearly in i: it is 1 at the pair that makes betaFast turns within the original context,
 * and 0 at the pair that makes betaSlow turns.
 */
function yarnKept(theta: number, headDim: number, scaling: YarnScaling): (i: number) => number {
  const { originalMaxPositions, truncate } = scaling;
  const dimension = (turns: number) =>
    (headDim * Math.log(originalMaxPositions / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const [fast, slow] = [dimension(scaling.betaFast), dimension(scaling.betaSlow)];
  const low = Math.max(truncate ? Math.floor(fast) : fast, 0);
  const high = Math.min(truncate ? Math.ceil(slow) : slow, headDim - 1);
  // If the bounds are equal, the width is 0.001, as in the reference implementation.
  const width = high === low ? 0.001 : high - low;
  return (i) => 1 - Math.min(Math.max((i - low) / width, 0), 1);
}

/** Returns cos and sin of position × frequency, each [positions, D/2], rounded to float32 at the end. */
export function rotaryTables(rope: RopeConfig, headDim: number, positions: number) {
  // Models are trained with transformers' float32 frequencies. The same rounding keeps angles equal
  // at high positions.
  const frequencies = Float32Array.from(inverseFrequencies(rope, headDim));
  const factor = rope.scaling?.type === 'yarn' ? rope.scaling.attentionFactor : 1;
  const half = frequencies.length;
  const cos = new Float32Array(positions * half);
  const sin = new Float32Array(positions * half);
  for (let position = 0; position < positions; position++) {
    for (let i = 0; i < half; i++) {
      const angle = Math.fround(position * frequencies[i]!);
      cos[position * half + i] = factor * Math.cos(angle);
      sin[position * half + i] = factor * Math.sin(angle);
    }
  }
  return { cos, sin };
}
