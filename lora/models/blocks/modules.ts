import type { LinearModule, Parameter } from '../architecture.ts';
import type { CommonConfig } from '../config.ts';
import { modelError } from '../errors.ts';

/** The output head of transformers' language models: a linear module without a bias. */
export function outputHead(config: CommonConfig): LinearModule {
  return { name: 'lm_head', in: config.hiddenSize, out: config.vocabularySize, bias: false, conv1d: false };
}

/** What a linear module has on disk. */
export function moduleParameters({ name, in: width, out, bias, conv1d }: LinearModule): Parameter[] {
  const weight = { name: `${name}.weight`, shape: conv1d ? [width, out] : [out, width] };
  return bias ? [weight, { name: `${name}.bias`, shape: [out] }] : [weight];
}

/** @throws SwarmError MODEL_SEQUENCE_TOO_LONG rows are longer than what the model was made for */
export function checkLength(config: CommonConfig, length: number): void {
  if (length <= config.maxPositions) return;
  throw modelError(
    'MODEL_SEQUENCE_TOO_LONG',
    `rows of ${length} tokens, but the model knows ${config.maxPositions} positions; use a shorter sequence length`,
    { length, maxPositions: config.maxPositions },
  );
}
