import { DYNAMIC } from '../graph/dynamic.ts';
import { Graph } from '../graph/graph.ts';
import { selectRows } from '../graph/passes/select-rows.ts';
import type { ParameterSource } from '../models/architecture.ts';
import { cachedInputs } from '../models/cached-sequences.ts';
import type { ModelShape } from '../models/targets.ts';

/**
 * Builds the graph that runs the model on new tokens of rows whose earlier keys and values are in a cache (see
 * `cachedInputs`). Its output `logits` [wanted, vocabulary] has the logits of the tokens with the indices `wanted`.
 */
export function decodeGraph(
  model: ModelShape,
  context: number,
  parametersOf: (graph: Graph) => ParameterSource,
): Graph {
  const graph = new Graph();
  const inputs = cachedInputs(graph, model.config, context);
  const logits = model.architecture.forward(graph, model.config, inputs, parametersOf(graph));
  graph.output('logits', selectRows(logits, graph.input('wanted', [DYNAMIC.wanted], 'int64')));
  return graph;
}
