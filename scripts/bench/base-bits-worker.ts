/**
 * Takes training steps with the given base bits, in a separate process to measure its peak memory. It reads its task
 * (JSON) from the first line of standard input, loads the model, and answers with a line of JSON: {cpuMilliseconds,
 * milliseconds, loss, peakBytes}. Then it takes one step for every further line and answers in the same way.
 */
import { createInterface } from 'node:readline';
import { loraConfig } from '../../lora/adapter/lora-config.ts';
import { createEngine, type Feeds } from '../../lora/engines/engine.ts';
import { elementCount } from '../../lora/graph/shapes.ts';
import type { BaseBits } from '../../lora/models/base/base-bits.ts';
import { openBase } from '../../lora/models/base/base-model.ts';
import { prepareWeights } from '../../lora/models/weights/prepare-weights.ts';
import { adaptedParameters } from '../../lora/train/adapted-model.ts';
import { rowFeeds, trainingGraph } from '../../lora/train/step.ts';
import { cpuMilliseconds } from './cpu-time.ts';
import { tokenAt } from './train-step-setup.ts';

export interface BaseBitsTask {
  readonly modelDir: string;
  readonly cacheDir: string;
  readonly bits: BaseBits;
  readonly checkpointing: boolean;
  readonly threads: number;
  readonly rows: number;
  readonly rowTokens: number;
}

export interface BaseBitsStep {
  readonly milliseconds: number;
  readonly cpuMilliseconds: number;
  /** Loss in nats per token. */
  readonly loss: number;
  readonly peakBytes: number;
}

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const task = JSON.parse((await lines.next()).value ?? '') as BaseBitsTask;
const { rows, rowTokens, threads, checkpointing, bits } = task;

const started = performance.now();
const model = await openBase(task.modelDir);
const weights = await prepareWeights(model, task.cacheDir, { bits });
const { config, architecture } = model;
const size = { config, architecture, batch: rows, length: rowTokens };
const lora = loraConfig({ rank: 16, alpha: 16 });
const { graph } = trainingGraph(size, (graph) => adaptedParameters(graph, model, lora), { checkpointing });
const executable = await (await createEngine('onnx-cpu', { threads })).compile(graph, weights);
const feeds = stepFeeds();
answer(performance.now() - started, cpuMilliseconds(), Number.NaN);

for await (const _ of lines) {
  const start = performance.now();
  const startCpu = cpuMilliseconds();
  const { loss } = await executable.run(feeds);
  answer(performance.now() - start, cpuMilliseconds() - startCpu, loss![0]! / (rows * rowTokens));
}
await executable.dispose();

function answer(milliseconds: number, cpu: number, loss: number): void {
  const peakBytes = process.resourceUsage().maxRSS * 1024;
  const step: BaseBitsStep = { milliseconds, cpuMilliseconds: cpu, loss, peakBytes };
  process.stdout.write(`${JSON.stringify(step)}\n`);
}

/** Returns the batch of the train-step benchmark, and an adapter whose values are as large as after some training. */
function stepFeeds(): Feeds {
  const batch = Array.from({ length: rows }, (_, row) => {
    const tokens = Array.from({ length: rowTokens }, (_, t) =>
      tokenAt(row * rowTokens + t, config.vocabularySize),
    );
    return {
      ids: Uint32Array.from(tokens, ({ id }) => id),
      labels: Int32Array.from(tokens, ({ label }) => label),
      segments: new Uint16Array(rowTokens),
    };
  });
  const adapter = Array.from(graph.inputs)
    .filter(([name]) => name.includes('lora_'))
    .map(([name, { shape }]): [string, Float32Array] => {
      const spread = name.includes('lora_B') ? 0.005 : 0.035;
      return [name, Float32Array.from({ length: elementCount(shape) }, (_, i) => spread * Math.sin(i * 1.7))];
    });
  return { ...rowFeeds(batch, size), ...Object.fromEntries(adapter) };
}
