/** Parameter groups: the learning rate and weight decay of each tensor of an adapter. */
import type { AdapterGroup } from '../../adapter/layout.ts';
import type { TrainingConfig } from '../config.ts';

/** The properties of an adapter's tensor that decide its parameter group. */
export interface GroupedTensor {
  readonly shape: readonly number[];
  readonly group: AdapterGroup;
}

export interface ParameterGroup {
  /** Number of values of the tensor. */
  readonly size: number;
  /** Whether weight decay applies. */
  readonly decay: boolean;
  /** Factor by which the learning rate is multiplied for this tensor. */
  readonly rate: number;
}

/**
 * Applies LoRA+ (Hayou et al. 2024, arXiv 2402.12354) as PEFT does: the learning rate of B and of every vector is
 * `loraPlusRatio` times the learning rate of all other tensors. Weight decay applies to the groups named in the
 * settings, but, as in transformers, never to norms and biases.
 */
export function parameterGroupOf(
  { shape, group }: GroupedTensor,
  { loraPlusRatio, weightDecayGroups }: Pick<TrainingConfig, 'loraPlusRatio' | 'weightDecayGroups'>,
): ParameterGroup {
  const vector = shape.length === 1;
  // A vector of a saved module is a norm's weight or a bias, so it never decays.
  const mayDecay = group !== 'bias' && !(group === 'saved' && vector);
  return {
    size: shape.reduce((product, count) => product * count, 1),
    decay: mayDecay && weightDecayGroups.includes(group),
    rate: group === 'B' || vector ? loraPlusRatio : 1,
  };
}
