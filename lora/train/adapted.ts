import { adapterModules, type LoraConfig, type ModelShape } from '../adapter/layout.ts';
import type { Graph } from '../graph/graph.ts';
import type { TrainableSource } from '../models/architecture.ts';
import { withLora } from '../models/lora.ts';
import { frozenParameters } from '../models/parameters.ts';

/** The frozen base with an adapter, whose tensors are inputs under their PEFT names; the bare base for null. */
export function adaptedParameters(graph: Graph, model: ModelShape, lora: LoraConfig | null): TrainableSource {
  const base = frozenParameters(graph, model.architecture, model.config);
  if (lora === null) return { ...base, trainable: new Map() };
  const { rank, alpha } = lora;
  return withLora(graph, base, { modules: adapterModules(model, lora), rank, scale: alpha / rank });
}
