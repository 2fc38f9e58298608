/** What differs between the tensors of an adapter in training: how fast they learn, and whether they decay. */
import type { AdapterGroup } from '../adapter/layout.ts';
import type { TrainingConfig } from './config.ts';

/** As much of an adapter's tensor as its treatment follows from. */
export interface GroupedTensor {
  readonly shape: readonly number[];
  readonly group: AdapterGroup;
}

export interface Treatment {
  /** Number of values. */
  readonly size: number;
  readonly decay: boolean;
  /** Factor of the learning rate. */
  readonly rate: number;
}

/**
 * LoRA+ (Hayou et al. 2024, arXiv 2402.12354) in PEFT's reading: B and every vector learn `loraPlusRatio` times as fast
 * as the rest. Weight decay goes to the groups named in the settings, as in transformers never to norms and biases.
 */
export function treatmentOf(
  { shape, group }: GroupedTensor,
  { loraPlusRatio, weightDecayGroups }: Pick<TrainingConfig, 'loraPlusRatio' | 'weightDecayGroups'>,
): Treatment {
  const vector = shape.length === 1;
  // Of a saved module: a norm's weight, or a bias.
  const mayDecay = group !== 'bias' && !(group === 'saved' && vector);
  return {
    size: shape.reduce((product, count) => product * count, 1),
    decay: mayDecay && weightDecayGroups.includes(group),
    rate: group === 'B' || vector ? loraPlusRatio : 1,
  };
}
