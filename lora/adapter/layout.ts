import { elementCount } from '../graph/shapes.ts';
import { magnitudeName, matrixName } from '../models/lora.ts';
import type { ModelShape } from '../models/targets.ts';
import type { LoraConfig } from './lora-config.ts';
import { type AdapterPlan, adapterPlan } from './plan.ts';

/** What a tensor of an adapter is: rates and weight decay may differ by it. */
export type AdapterGroup = 'A' | 'B' | 'magnitude' | 'bias' | 'saved';

/**
 * One tensor of an adapter: `….lora_A.weight` [r, in], `….lora_B.weight` [out, r] (of an embedding `lora_embedding_A`
 * [r, vocabulary] and `lora_embedding_B` [width, r]), DoRA's
 * `….lora_magnitude_vector` [out], a trained bias [out], or a parameter of a module that is saved whole.
 */
export interface AdapterTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly group: AdapterGroup;
  /** On A and B of a module whose weight lies on disk as [in, out]. */
  readonly conv1d?: true;
}

/** The tensors of an adapter sorted by name: the order in which every part of the system keeps their values. */
export type AdapterLayout = readonly AdapterTensor[];

/**
 * @throws SwarmError LORA_* the configuration does not fit the model
 */
export function adapterLayout(model: ModelShape, lora: LoraConfig): AdapterLayout {
  return planLayout(adapterPlan(model, lora), lora);
}

/** The layout of an adapter whose plan is known. */
export function planLayout(plan: AdapterPlan, lora: Pick<LoraConfig, 'useDora'>): AdapterLayout {
  const matrices = plan.modules.flatMap((module): AdapterTensor[] => {
    const { in: width, out, rank, conv1d, embedding } = module;
    const kind = conv1d && !embedding ? { conv1d } : {};
    return [
      { name: matrixName(module, 'A'), shape: [rank, width], group: 'A', ...kind },
      { name: matrixName(module, 'B'), shape: [out, rank], group: 'B', ...kind },
    ];
  });
  const magnitudes = lora.useDora
    ? plan.modules.map(({ name, out }) => ({
        name: magnitudeName(name),
        shape: [out],
        group: 'magnitude' as const,
      }))
    : [];
  const copies = plan.copies.map(({ tensor, shape, group }) => ({ name: tensor, shape, group }));
  return [...matrices, ...magnitudes, ...copies].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Number of values in an adapter. */
export function adapterSize(layout: AdapterLayout): number {
  return layout.reduce((sum, { shape }) => sum + elementCount(shape), 0);
}
