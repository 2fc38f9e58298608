import type { LoraConfig } from '../adapter/lora-config.ts';
import { adapterPlan } from '../adapter/plan.ts';
import type { Graph } from '../graph/graph.ts';
import type { TrainableSource } from '../models/architecture.ts';
import { withLora } from '../models/lora.ts';
import { frozenParameters } from '../models/parameters.ts';
import type { ModelShape } from '../models/targets.ts';

/**
 * Returns the parameters of the frozen base with an adapter, or of the base alone if `lora` is null. The adapter's
 * tensors are graph inputs with their PEFT names. `trainable` holds only the trained tensors, so it lacks A if A is
 * frozen.
 *
 * @param options.training whether to apply dropout. With dropout the graph has the input `seed` (see randomSeed).
 *   Default false
 */
export function adaptedParameters(
  graph: Graph,
  model: ModelShape,
  lora: LoraConfig | null,
  options: { training?: boolean } = {},
): TrainableSource {
  if (lora === null) {
    return { ...frozenParameters(graph, model.architecture, model.config), trainable: new Map() };
  }
  const { useDora, freezeA } = lora;
  const dropout = options.training ? lora.dropout : 0;
  return withLora(graph, model, { ...adapterPlan(model, lora), useDora, freezeA, dropout });
}
