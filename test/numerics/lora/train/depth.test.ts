import { describe, expect, it } from 'vitest';
import { loraConfig } from '../../../../lora/adapter/lora-config.ts';
import { graphCost } from '../../../../lora/graph/cost.ts';
import { liveNodes } from '../../../../lora/graph/passes/live-nodes.ts';
import { adaptedParameters } from '../../../../lora/train/adapted-model.ts';
import { trainingGraph } from '../../../../lora/train/step.ts';
import { FAMILY_FIXTURES, openFamily } from '../../../utils/models/families.ts';

describe.each(FAMILY_FIXTURES)('%s with an adapter on its last block only', (fixture) => {
  it('has no backward pass below that block', async () => {
    const { model } = await openFamily(fixture);
    const { config, architecture } = model;
    const last = architecture.blocks(config).length - 1;
    const graphWith = (settings: Parameters<typeof loraConfig>[0]) =>
      trainingGraph({ config, architecture, batch: 2, length: 32 }, (graph) =>
        adaptedParameters(graph, model, loraConfig({ rank: 2, ...settings })),
      ).graph;
    const top = graphWith({ layersToTransform: [last] });
    const nodes = liveNodes(top);
    const readersOf = (block: number) =>
      architecture
        .linearModules(config)
        .filter(({ name }) => name.startsWith(`${architecture.blocks(config)[block]}.`))
        .map(({ name }) => {
          const weight = top.weights.get(`${name}.weight`)!;
          return nodes.filter(({ operation, inputs }) => operation === 'gemm' && inputs.includes(weight))
            .length;
        });
    // The forward pass multiplies by each weight once. The backward pass multiplies by it again only if the module, or a
    // module below it, is trained.
    expect(new Set(readersOf(0))).toEqual(new Set([1]));
    expect(Math.max(...readersOf(last))).toBe(2);
    expect(graphCost(top).flops).toBeLessThan(graphCost(graphWith({})).flops);
    expect(graphCost(top).activationBytes).toBeLessThan(graphCost(graphWith({})).activationBytes);
  });
});
