import { engineError } from '../errors.ts';
import './telemetry.ts';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { InferenceSession, Tensor as OnnxTensor } from 'onnxruntime-node';
import { isSwarmError } from '../../../common/errors.ts';
import { Graph, type Tensor } from '../../graph/graph.ts';
import { add } from '../../graph/ops.ts';
import { foldBranches } from '../../graph/passes/fold-branches.ts';
import { joinThinProducts } from '../../graph/passes/join-thin-products.ts';
import { bindFeeds, type Feeds } from '../feeds.ts';
import type { OnnxEngineName } from '../names.ts';
import { runOnce } from '../run-once.ts';
import type { Engine, EngineOptions, Executable } from '../types.ts';
import type { WeightFile } from '../weights.ts';
import type { Provider } from './emitter.ts';
import { buildModel } from './model.ts';

const PROVIDERS: Readonly<Record<OnnxEngineName, Provider>> = {
  'onnx-cpu': 'cpu',
  'onnx-cuda': 'cuda',
  'onnx-webgpu': 'webgpu',
};

/** What a machine must have for an engine, and how to get it. */
export function requirementsOf(name: Exclude<OnnxEngineName, 'onnx-cpu'>): string {
  if (name === 'onnx-webgpu') {
    return "It needs a GPU with its driver for Vulkan (Linux: libvulkan1 and the GPU's driver), Metal or D3D12 (docs/engines.md)";
  }
  const script = join(
    dirname(createRequire(import.meta.url).resolve('onnxruntime-node')),
    '../script/install.js',
  );
  return `It needs an NVIDIA GPU on Linux x64, CUDA 12 and cuDNN 9 on the loader's path, and libraries that this command fetches: node ${script} --onnxruntime-node-install=cuda12 (docs/engines.md)`;
}

/** @throws SwarmError ENGINE_UNAVAILABLE when the provider does not run a trivial graph on this machine */
export async function createOnnxEngine(name: OnnxEngineName, options: EngineOptions): Promise<Engine> {
  const engine: Engine = { name, compile: (graph, weights) => compile(name, options, graph, weights) };
  if (name !== 'onnx-cpu') await probe(engine, requirementsOf(name));
  return engine;
}

async function compile(
  name: OnnxEngineName,
  options: EngineOptions,
  graph: Graph,
  weights: WeightFile | null,
): Promise<Executable> {
  // Nothing can be added to packed weights.
  const merges = name === 'onnx-cpu' && !weights?.quantised;
  const merged = merges ? foldBranches(graph) : graph;
  const compiled = name === 'onnx-cpu' ? joinThinProducts(merged) : merged;
  const bytes = buildModel(compiled, weights, PROVIDERS[name], options);
  try {
    const session = await InferenceSession.create(bytes, sessionOptions(name, options, weights));
    return new OnnxExecutable(graph, session);
  } catch (cause) {
    const message = `${name} cannot compile the graph: ${messageOf(cause)}`;
    throw engineError('ENGINE_COMPILE', message, { engine: name }, { cause });
  }
}

/** Fails early, and with advice, on a machine without the device: it is looked for when a session is made. */
async function probe(engine: Engine, needs: string): Promise<void> {
  const graph = new Graph();
  const x = graph.input('x', [1]);
  graph.output('y', add(x, x));
  try {
    await runOnce(engine, graph, { x: Float32Array.of(1) });
  } catch (error) {
    const cause = isSwarmError(error) ? (error.cause ?? error) : error;
    const reason = providerMessage(messageOf(cause));
    throw engineError(
      'ENGINE_UNAVAILABLE',
      `${engine.name} does not run here: ${reason}. ${needs}; onnx-cpu runs everywhere`,
      { engine: engine.name, reason, needs },
      { cause },
    );
  }
}

/** What a provider says, without where in its source it says so: "file.cc:12 function(…) condition was false. Message". */
function providerMessage(message: string): string {
  const said = /was false\.\s*(.+)$/s.exec(message)?.[1] ?? message;
  return said.replace(/\s+/g, ' ').replace(/[ .]+$/, '');
}

function sessionOptions(
  name: OnnxEngineName,
  options: EngineOptions,
  weights: WeightFile | null,
): InferenceSession.SessionOptions {
  const folder =
    weights === null ? {} : { model_external_initializers_file_folder_path: dirname(weights.path) };
  return {
    executionProviders: [
      name === 'onnx-cuda' ? { name: 'cuda', deviceId: options.device ?? 0 } : PROVIDERS[name],
    ],
    intraOpNumThreads: options.threads,
    interOpNumThreads: 1,
    graphOptimizationLevel: 'all',
    // The arena keeps the peak of every size class: 3.8 GB instead of 1.4 to 2.1 for a 135M model, no faster.
    enableCpuMemArena: false,
    // The plan for all activations at once costs 0.6 GB at 135M parameters, and gains no time.
    enableMemPattern: false,
    // Failures are thrown and logged by whoever catches them; nothing else is written to the terminal.
    logSeverityLevel: 4,
    extra: {
      session: {
        // Its passes for models that compute in whole numbers would dequantise a table once for each product with it.
        disable_quant_qdq: '1',
        // What underflows is zero. Softmax makes denormals of what causal masks hide, and processors take a hundred times as long
        // to multiply them: half of all scores at 4 rows of 128 tokens, 4 % of a step's time (decision 013). onnxruntime sets it
        // on x86, for its threads and, with a process's first session, for the thread that makes it: JavaScript's. There
        // denormals are zeros from then on, too, of doubles and of float32 read one by one; copies of arrays keep their bits.
        set_denormal_as_zero: '1',
        // Waking a thread takes longer than most operations leave it without work, so it waits for a moment before it sleeps:
        // 4 % of a step (decision 013). Longer gains nothing, and takes the cores from the daemon and everybody else.
        intra_op: { allow_spinning: '1', spin_duration_us: '5' },
        // Every product would keep its own packed copy of its weight: twice the weights for training, which uses
        // each of them forward and transposed. Unpacked, they stay in the mapped file, and it is no slower.
        // The kernels of a quantised base are fast on packed weights only, which are no larger than the unpacked ones.
        disable_prepacking: weights?.quantised && name === 'onnx-cpu' ? '0' : '1',
        ...folder,
      },
      // Equal nodes are one already, but for those that a pass repeated to save memory.
      optimization: { disable_specified_optimizers: 'CommonSubexpressionElimination' },
    },
  };
}

class OnnxExecutable implements Executable {
  readonly #inputs: ReadonlyMap<string, Tensor>;
  readonly #outputs: readonly string[];
  #session: InferenceSession | null;

  constructor(graph: Graph, session: InferenceSession) {
    // The graph may grow after it was compiled; this is what the session knows.
    this.#inputs = new Map(graph.inputs);
    this.#outputs = [...graph.outputs.keys()];
    this.#session = session;
  }

  async run(feeds: Feeds): Promise<Record<string, Float32Array>> {
    const session = this.#session;
    if (session === null)
      throw engineError('ENGINE_DISPOSED', 'the executable was disposed; compile the graph again');
    const inputs = this.#bind(feeds);
    let results: InferenceSession.ReturnType;
    try {
      results = await session.run(inputs, { logSeverityLevel: 4 });
    } catch (cause) {
      const reason = providerMessage(messageOf(cause));
      throw engineError('ENGINE_RUN', `running the graph failed: ${reason}`, {}, { cause });
    }
    const outputs: Record<string, Float32Array> = {};
    for (const name of this.#outputs) {
      const tensor = results[`out:${name}`] as OnnxTensor;
      outputs[name] = tensor.data as Float32Array;
    }
    return outputs;
  }

  async dispose(): Promise<void> {
    const session = this.#session;
    this.#session = null;
    await session?.release();
  }

  #bind(feeds: Feeds): Record<string, OnnxTensor> {
    const bound: Record<string, OnnxTensor> = {};
    for (const { name, tensor, data } of bindFeeds(this.#inputs, feeds)) {
      bound[`in:${name}`] =
        data instanceof Float32Array
          ? new OnnxTensor('float32', data, tensor.shape)
          : new OnnxTensor('int64', data, tensor.shape);
    }
    return bound;
  }
}

function messageOf(cause: unknown): string {
  return (cause instanceof Error ? cause.message : String(cause)).trim();
}
