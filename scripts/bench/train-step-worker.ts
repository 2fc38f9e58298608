/**
 * Our side of the train-step bench in a process of its own, so that its peak memory is its own. Reads the setup
 * (JSON) on the first line of standard input, then takes one step for every further line and answers with a line
 * of JSON: {milliseconds, loss, peakBytes}.
 */
import { open } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { createEngine, type Feeds } from '../../lora/engines/engine.ts';
import { llama } from '../../lora/models/families/llama.ts';
import { withLora } from '../../lora/models/lora.ts';
import { rowFeeds, trainingGraph } from '../../lora/train/step.ts';
import { MODULES, type Setup, tokenAt, weightFile } from './train-step-setup.ts';

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const setup = JSON.parse((await lines.next()).value ?? '') as Setup;
const { config, rows, rowTokens, rank, threads } = setup;
const weights = weightFile(setup);
const size = { config, architecture: llama, batch: rows, length: rowTokens };
const { graph, parameters } = trainingGraph(size, (graph) =>
  withLora(
    graph,
    { architecture: llama, config },
    { modules: MODULES.map((module) => ({ ...module, rank, scale: 1 })) },
  ),
);
const engine = await createEngine('onnx-cpu', { threads });
const executable = await engine.compile(graph, weights);
const feeds: Feeds = { ...batchFeeds(), ...(await adapterFeeds()) };

for await (const _ of lines) {
  const start = performance.now();
  const { loss } = await executable.run(feeds);
  const milliseconds = performance.now() - start;
  const peakBytes = process.resourceUsage().maxRSS * 1024;
  process.stdout.write(
    `${JSON.stringify({ milliseconds, loss: loss![0]! / (rows * rowTokens), peakBytes })}\n`,
  );
}
await executable.dispose();

function batchFeeds(): Feeds {
  const batch = Array.from({ length: rows }, (_, row) => {
    const tokens = Array.from({ length: rowTokens }, (_, t) => tokenAt(row * rowTokens + t));
    return {
      ids: Uint32Array.from(tokens, ({ id }) => id),
      labels: Int32Array.from(tokens, ({ label }) => label),
      segments: new Uint16Array(rowTokens),
    };
  });
  return rowFeeds(batch, size);
}

async function adapterFeeds(): Promise<Feeds> {
  const file = await open(setup.path);
  const values: Record<string, Float32Array> = {};
  for (const { name } of parameters) {
    const { offset, length } = weights.entries.get(name)!;
    const data = new Float32Array(length / 4);
    await file.read(data, 0, length, offset);
    values[name] = data;
  }
  await file.close();
  return values;
}
