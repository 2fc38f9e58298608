import type { LinearModule, Parameter } from '../architecture.ts';
import type { CommonConfig } from '../config.ts';
import { modelError } from '../errors.ts';

/** Returns the output head of transformers' language models: a linear module without bias. */
export function outputHead(config: CommonConfig): LinearModule {
  return { name: 'lm_head', in: config.hiddenSize, out: config.vocabularySize, bias: false, conv1d: false };
}

/** Lists the parameters of a linear module in their stored shapes. */
export function moduleParameters({ name, in: width, out, bias, conv1d }: LinearModule): Parameter[] {
  const weight = { name: `${name}.weight`, shape: conv1d ? [width, out] : [out, width] };
  return bias ? [weight, { name: `${name}.bias`, shape: [out] }] : [weight];
}

/**
 * Checks the length of rows in tokens.
 * @throws SwarmError MODEL_SEQUENCE_TOO_LONG if the model has fewer positions than a row has tokens
 */
export function checkLength(config: CommonConfig, length: number): void {
  if (length <= config.maxPositions) return;
  throw modelError(
    'MODEL_SEQUENCE_TOO_LONG',
    `rows have ${length} tokens, but the model has ${config.maxPositions} positions`,
    { length, maxPositions: config.maxPositions },
  );
}
