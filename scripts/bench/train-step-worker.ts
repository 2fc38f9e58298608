/**
 * The process that takes training steps with this program in the train-step benchmark. It is a separate
 * process, so that its peak memory can be measured. Reads the setup (JSON) from the first line of standard
 * input, then takes one step for every further line and answers with a line of JSON: {milliseconds,
 * cpuMilliseconds, flops, loss, peakBytes}.
 *
 * Usage: node train-step-worker.ts [full|supervised|checkpointing|product]
 *
 * `supervised` trains only on the last 30 % of each row, and `checkpointing` uses gradient checkpointing. A
 * step of `product` is a chain of the model's widest matrix products, and shows the best speed that the
 * machine reaches.
 */
import { open } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { createEngine, type Engine, type Executable, type Feeds } from '../../lora/engines/engine.ts';
import { graphCost } from '../../lora/graph/cost.ts';
import { Graph } from '../../lora/graph/graph.ts';
import { linear } from '../../lora/graph/ops.ts';
import { elementCount } from '../../lora/graph/shapes.ts';
import { withLora } from '../../lora/models/lora.ts';
import { rowFeeds, trainingGraph } from '../../lora/train/step.ts';
import { countSupervised, supervisedSize } from '../../lora/train/supervised.ts';
import { cpuMilliseconds } from './cpu-time.ts';
import {
  adaptedModules,
  architectureOf,
  benchRows,
  type Setup,
  SUPERVISED_SHARE,
  weightFile,
} from './train-step-setup.ts';

interface Work {
  executable: Executable;
  feeds: Feeds;
  flops: number;
  supervised: number;
}

/**
 * Number of pairs of matrix products (up, then down) in one step of the mode `product`. With 20 pairs, a step
 * takes long enough for an exact time.
 */
const PRODUCT_PAIRS = 20;

const mode = process.argv[2] ?? 'full';
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const setup = JSON.parse((await lines.next()).value ?? '') as Setup;
const engine = await createEngine('onnx-cpu', { threads: setup.threads });
const { executable, feeds, flops, supervised } = await (mode === 'product' ? product : training)(
  setup,
  engine,
);

for await (const _ of lines) {
  const cpu = cpuMilliseconds();
  const start = performance.now();
  const { loss } = await executable.run(feeds);
  const milliseconds = performance.now() - start;
  const step = {
    milliseconds,
    cpuMilliseconds: cpuMilliseconds() - cpu,
    flops,
    loss: loss![0]! / supervised,
    peakBytes: process.resourceUsage().maxRSS * 1024,
  };
  process.stdout.write(`${JSON.stringify(step)}\n`);
}
await executable.dispose();

async function training(setup: Setup, engine: Engine): Promise<Work> {
  const { config, rows, rowTokens, rank } = setup;
  const architecture = architectureOf(config);
  const batch = benchRows(setup, mode === 'supervised' ? SUPERVISED_SHARE : 1);
  const scored = countSupervised(batch);
  const size = {
    config,
    architecture,
    batch: rows,
    length: rowTokens,
    supervised: supervisedSize(scored, rows * rowTokens),
  };
  const { graph, parameters } = trainingGraph(
    size,
    (graph) =>
      withLora(
        graph,
        { architecture, config },
        { modules: adaptedModules(config).map((module) => ({ ...module, rank, scale: 1 })) },
      ),
    { checkpointing: mode === 'checkpointing' },
  );
  const adapter = await adapterValues(
    setup,
    parameters.map(({ name }) => name),
  );
  return {
    executable: await engine.compile(graph, weightFile(setup)),
    feeds: { ...rowFeeds(batch, size), ...adapter },
    flops: graphCost(graph).flops,
    supervised: scored,
  };
}

async function product({ config, rows, rowTokens }: Setup, engine: Engine): Promise<Work> {
  const graph = new Graph();
  const feeds: Record<string, Float32Array> = {};
  const up = graph.input('up', [config.intermediateSize, config.hiddenSize]);
  const down = graph.input('down', [config.hiddenSize, config.intermediateSize]);
  let x = graph.input('x', [rows * rowTokens, config.hiddenSize]);
  for (let i = 0; i < PRODUCT_PAIRS; i++) x = linear(linear(x, up), down);
  graph.output('loss', x);
  for (const [name, { shape }] of graph.inputs)
    feeds[name] = new Float32Array(elementCount(shape)).fill(0.01);
  return {
    executable: await engine.compile(graph, null),
    feeds,
    flops: graphCost(graph).flops,
    supervised: 1,
  };
}

async function adapterValues(setup: Setup, names: readonly string[]): Promise<Feeds> {
  const { entries, path } = weightFile(setup);
  const file = await open(path);
  const values: Record<string, Float32Array> = {};
  for (const name of names) {
    const { offset, length } = entries.get(name)!;
    const data = new Float32Array(length / 4);
    await file.read(data, 0, length, offset);
    values[name] = data;
  }
  await file.close();
  return values;
}
