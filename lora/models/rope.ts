import type { RopeConfig } from './rope-config.ts';

/**
 * Angular frequencies of the rotary embedding, one per pair of head dimensions.
 *
 * Plain: ω_i = θ^(−2i/D). "llama3" scaling (Llama 3.1 model card; transformers' modeling_rope_utils): with
 * wavelength λ = 2π/ω and the trained context L, keep ω where λ < L/high, divide it by `factor` where
 * λ > L/low, and blend linearly in L/λ between.
 *
 * @returns D/2 frequencies in radians per position
 */
export function inverseFrequencies(rope: RopeConfig, headDim: number): Float64Array {
  const frequencies = new Float64Array(headDim / 2);
  for (let i = 0; i < frequencies.length; i++) {
    const frequency = rope.theta ** ((-2 * i) / headDim);
    frequencies[i] = rope.scaling === null ? frequency : stretch(frequency, rope.scaling);
  }
  return frequencies;
}

function stretch(frequency: number, scaling: NonNullable<RopeConfig['scaling']>): number {
  const { factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalMaxPositions } = scaling;
  const wavelength = (2 * Math.PI) / frequency;
  if (wavelength < originalMaxPositions / high) return frequency;
  if (wavelength > originalMaxPositions / low) return frequency / factor;
  const blend = (originalMaxPositions / wavelength - low) / (high - low);
  return (1 - blend) * (frequency / factor) + blend * frequency;
}

/** cos and sin of position × frequency, each [positions, D/2], rounded once to float32. */
export function rotaryTables(rope: RopeConfig, headDim: number, positions: number) {
  // transformers keeps the frequencies in float32 and so do checkpoints trained with it: rounding them
  // the same way keeps angles equal at far positions.
  const frequencies = Float32Array.from(inverseFrequencies(rope, headDim));
  const half = frequencies.length;
  const cos = new Float32Array(positions * half);
  const sin = new Float32Array(positions * half);
  for (let position = 0; position < positions; position++) {
    for (let i = 0; i < half; i++) {
      const angle = Math.fround(position * frequencies[i]!);
      cos[position * half + i] = Math.cos(angle);
      sin[position * half + i] = Math.sin(angle);
    }
  }
  return { cos, sin };
}
