import { SwarmError } from '../../protocol/errors.ts';
import type { Graph, Tensor } from '../graph/graph.ts';
import { linear } from '../graph/ops.ts';
import type { Architecture, ParameterSource, TrainableSource } from './architecture.ts';
import type { ModelConfig } from './config.ts';

/** The base as it is: every parameter a frozen weight, resolved by name when the graph is compiled. */
export function frozenParameters(
  graph: Graph,
  architecture: Architecture,
  config: ModelConfig,
): ParameterSource {
  return sourceOf(architecture, config, (name, shape) => graph.weight(name, shape));
}

/** Full-parameter training: every parameter is an input of the graph, fed under its own name. */
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
  // Declared at once and in the architecture's order, so that callers can pair them with their values.
  for (const { name } of architecture.parameters(config)) source.tensor(name);
  return { ...source, trainable };
}

function sourceOf(
  architecture: Architecture,
  config: ModelConfig,
  declare: (name: string, shape: readonly number[]) => Tensor,
): ParameterSource {
  const shapes = new Map(architecture.parameters(config).map(({ name, shape }) => [name, shape]));
  const tensor = (name: string): Tensor => {
    const shape = shapes.get(name);
    if (!shape)
      throw new SwarmError('MODEL_PARAMETER', `${architecture.name} has no parameter ${name}`, { name });
    return declare(name, shape);
  };
  return { tensor, linear: (name, x) => linear(x, tensor(weightOf(name, config))) };
}

/** The weight of a linear module; a tied output head reads the embedding table. */
export function weightOf(module: string, config: ModelConfig): string {
  return module === 'lm_head' && config.tieWordEmbeddings ? 'model.embed_tokens.weight' : `${module}.weight`;
}
