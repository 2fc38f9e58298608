import type { Graph, Tensor } from '../../lora/graph/graph.ts';
import type { Architecture, TrainableSource } from '../../lora/models/architecture.ts';
import type { ModelConfig } from '../../lora/models/families.ts';
import { sourceOf } from '../../lora/models/parameters.ts';

/** Returns the base for full-parameter training: every parameter is an input of the graph, fed under its own name. */
export function trainableParameters(
  graph: Graph,
  architecture: Architecture,
  config: ModelConfig,
): TrainableSource {
  const trainable = new Map<string, Tensor>();
  const declare = (name: string, shape: readonly number[]) => {
    const tensor = graph.input(name, shape);
    trainable.set(name, tensor);
    return tensor;
  };
  const source = sourceOf(architecture, config, declare);
  // Declare the tensors now, in the architecture's order, so that callers can pair them with values.
  for (const { name } of architecture.parameters(config)) source.tensor(name);
  return { ...source, trainable };
}
