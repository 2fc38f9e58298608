import { elementCount } from '../graph/shapes.ts';
import { magnitudeName, matrixName } from '../models/lora.ts';
import type { ModelShape } from '../models/targets.ts';
import type { LoraConfig } from './lora-config.ts';
import { type AdapterPlan, adapterPlan } from './plan.ts';

/** Parameter group of an adapter's tensor; learning rate and weight decay may differ between groups. */
export type AdapterGroup = 'A' | 'B' | 'magnitude' | 'bias' | 'saved';

/**
 * One tensor of an adapter, which is one of these:
 * - `….lora_A.weight` [r, in] or `….lora_B.weight` [out, r]
 * - for an embedding, `….lora_embedding_A` [r, vocabulary] or `….lora_embedding_B` [width, r]
 * - DoRA's `….lora_magnitude_vector` [out]
 * - a trained bias [out]
 * - a parameter of a saved module
 */
export interface AdapterTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly group: AdapterGroup;
  /** Set on A and B of a module whose weight is stored as [in, out]. */
  readonly conv1d?: true;
}

/** The tensors of an adapter, sorted by name. Values of an adapter are always kept in this order. */
export type AdapterLayout = readonly AdapterTensor[];

/** Returns the layout of an adapter. @throws SwarmError LORA_* if the settings do not fit the model */
export function adapterLayout(model: ModelShape, lora: LoraConfig): AdapterLayout {
  return planLayout(adapterPlan(model, lora), lora);
}

/** Returns the layout of an adapter from its plan. */
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

/** Returns the number of values in an adapter. */
export function adapterSize(layout: readonly Pick<AdapterTensor, 'shape'>[]): number {
  return layout.reduce((sum, { shape }) => sum + elementCount(shape), 0);
}
