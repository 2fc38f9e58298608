import type { Graph, Tensor } from '../graph/graph.ts';
import { addmm, gatherRows, linear, transpose } from '../graph/ops.ts';
import type { Architecture, LinearModule, ParameterSource } from './architecture.ts';
import { modelError } from './errors.ts';
import type { ModelConfig } from './families.ts';

/** Returns the unchanged base: every parameter is a frozen weight, looked up by name when the graph is compiled. */
export function frozenParameters(
  graph: Graph,
  architecture: Architecture,
  config: ModelConfig,
): ParameterSource {
  return sourceOf(architecture, config, (name, shape) => graph.weight(name, shape));
}

/**
 * Makes a parameter source from a function that declares one parameter in a graph.
 * @throws SwarmError MODEL_PARAMETER on use with a name that the architecture does not have
 */
export function sourceOf(
  architecture: Architecture,
  config: ModelConfig,
  declare: (name: string, shape: readonly number[]) => Tensor,
): ParameterSource {
  const shapes = new Map(architecture.parameters(config).map(({ name, shape }) => [name, shape]));
  const tensor = (name: string): Tensor => {
    const shape = shapes.get(name);
    if (!shape)
      throw modelError('MODEL_PARAMETER', `${architecture.name} has no parameter ${name}`, { name });
    return declare(name, shape);
  };
  const modules = new Map(architecture.linearModules(config).map((module) => [module.name, module]));
  const find = (name: string): LinearModule => {
    const module = modules.get(name);
    if (!module)
      throw modelError('MODEL_PARAMETER', `${architecture.name} has no linear module ${name}`, { name });
    return module;
  };
  return {
    tensor,
    rows: (name, ids) => gatherRows(tensor(name), ids),
    weight(name) {
      const { conv1d } = find(name);
      const stored = tensor(weightOf(name, architecture, config));
      return conv1d ? transpose(stored) : stored;
    },
    linear(name, x) {
      const { bias, conv1d } = find(name);
      const stored = tensor(weightOf(name, architecture, config));
      const addTo = bias ? tensor(`${name}.bias`) : undefined;
      return conv1d ? addmm(addTo ?? null, x, stored) : linear(x, stored, { addTo });
    },
  };
}

/** Returns the parameter that holds a linear module's weight; for a tied output head, the embedding table. */
export function weightOf(
  module: string,
  { head, embedding }: Pick<Architecture, 'head' | 'embedding'>,
  config: Pick<ModelConfig, 'tieWordEmbeddings'>,
): string {
  return module === head && config.tieWordEmbeddings ? embedding : `${module}.weight`;
}
