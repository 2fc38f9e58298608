import { engineError } from '../errors.ts';
import '../telemetry.ts';
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
import type { DynamicOptions, Engine, EngineOptions, Executable } from '../types.ts';
import type { WeightFile } from '../weights.ts';
import { DynamicSession } from './dynamic-session.ts';
import type { Provider } from './emitter.ts';
import { buildModel } from './model.ts';
import { onnxruntimeFolder } from './package-folder.ts';
import { messageOf, providerMessage } from './provider-message.ts';

const PROVIDERS: Readonly<Record<OnnxEngineName, Provider>> = {
  'onnx-cpu': 'cpu',
  'onnx-cuda': 'cuda',
  'onnx-webgpu': 'webgpu',
};

/** Returns advice on how to get an engine to run: what the machine must have, and how to install it. */
export function requirementsOf(name: Exclude<OnnxEngineName, 'onnx-cpu'>): string {
  if (name === 'onnx-webgpu') {
    return 'install a GPU driver with Vulkan (on Linux also the package libvulkan1), Metal or D3D12 (see docs/engines.md)';
  }
  // The shells of Linux would split the path at its spaces.
  const script = join(onnxruntimeFolder(), 'script/install.js').replaceAll(' ', '\\ ');
  return `on Linux x64 with an NVIDIA GPU, install CUDA 12 and cuDNN 9 on the loader's path and run "node ${script} --onnxruntime-node-install=cuda12" (see docs/engines.md)`;
}

/**
 * Creates an engine on one of onnxruntime's execution providers.
 * @throws SwarmError ENGINE_UNAVAILABLE when the provider does not run a trivial graph on this machine
 */
export async function createOnnxEngine(name: OnnxEngineName, options: EngineOptions): Promise<Engine> {
  const engine: Engine = {
    name,
    compile: (graph, weights) => compile(name, options, graph, weights),
    ...(name === 'onnx-cpu' && {
      compileDynamic: async (graph, weights, change = {}) =>
        new DynamicSession(await createSession(name, { ...options, ...change }, graph, weights)),
    }),
  };
  if (name !== 'onnx-cpu') await probe(engine, requirementsOf(name));
  return engine;
}

async function compile(
  name: OnnxEngineName,
  options: EngineOptions,
  graph: Graph,
  weights: WeightFile | null,
): Promise<Executable> {
  // LoRA branches are not folded into the weights of a quantised base, because these weights are packed for
  // kernels.
  const folds = name === 'onnx-cpu' && !weights?.quantised;
  const folded = folds ? foldBranches(graph) : graph;
  const compiled = name === 'onnx-cpu' ? joinThinProducts(folded) : folded;
  return new OnnxExecutable(graph, await createSession(name, options, compiled, weights));
}

async function createSession(
  name: OnnxEngineName,
  options: SessionSettings,
  graph: Graph,
  weights: WeightFile | null,
): Promise<InferenceSession> {
  const bytes = buildModel(graph, weights, PROVIDERS[name], options);
  try {
    return await InferenceSession.create(bytes, sessionOptions(name, options, weights));
  } catch (cause) {
    const message = `${name} cannot compile the graph: ${messageOf(cause)}`;
    throw engineError('ENGINE_COMPILE', message, { engine: name }, { cause });
  }
}

/**
 * Runs a trivial graph, so that a machine without the device fails early and with advice. onnxruntime looks for the
 * device only when it creates a session.
 */
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
      `${engine.name} does not run on this machine: ${reason}`,
      { engine: engine.name, reason, needs },
      { next: `use --engine onnx-cpu, which runs on every machine; or ${needs}`, cause },
    );
  }
}

type SessionSettings = EngineOptions & DynamicOptions;

function sessionOptions(
  name: OnnxEngineName,
  options: SessionSettings,
  weights: WeightFile | null,
): InferenceSession.SessionOptions {
  const packs = options.packWeights || (weights?.quantised !== undefined && name === 'onnx-cpu');
  const folder =
    weights === null ? {} : { model_external_initializers_file_folder_path: dirname(weights.path) };
  return {
    executionProviders: [
      name === 'onnx-cuda' ? { name: 'cuda', deviceId: options.device ?? 0 } : PROVIDERS[name],
    ],
    intraOpNumThreads: options.threads,
    interOpNumThreads: 1,
    graphOptimizationLevel: 'all',
    // The arena is off, because it keeps the peak memory of every size class. With it, training a model of 135M parameters
    // would take 3.8 GB instead of 1.4 to 2.1 GB, at the same speed.
    enableCpuMemArena: false,
    // The memory pattern, which is one memory plan for all activations, is off. It costs 0.6 GB at 135M parameters and saves
    // no time.
    enableMemPattern: false,
    // Only fatal messages are logged, because failures are thrown and the caller reports them.
    logSeverityLevel: 4,
    extra: {
      session: {
        // onnxruntime's passes for quantised models are off. They would copy the node that dequantises rows of the
        // embedding or output head for each matrix product that reads these rows, so the rows would be dequantised
        // several times (decision 012).
        disable_quant_qdq: '1',
        // The processor treats denormals as zero. onnxruntime's softmax returns denormals for the scores that the
        // causal mask hides, which are about half of all scores in rows of 128 tokens. Processors take a hundred times
        // as long to multiply denormals as to multiply other numbers (decision 013). onnxruntime sets this mode only
        // on x86, in its own threads. When a process creates its first session, onnxruntime also sets the mode in the
        // calling thread, which runs JavaScript. From then on, JavaScript also reads denormal doubles and float32
        // numbers as zero. Only a copy of a whole array keeps denormals.
        set_denormal_as_zero: '1',
        // A thread spins for 5 µs before it sleeps, because waking it takes longer than the gap between most
        // operations. This saves 4 % of a step (decision 013). Spinning longer saves no more and takes cores from other
        // processes.
        intra_op: { allow_spinning: '1', spin_duration_us: '5' },
        // Prepacking gives each matrix product its own packed copy of its weight. Training would hold two copies of
        // each weight, because the forward pass multiplies with W and the backward pass with Wᵀ. Unpacked weights stay
        // in the mapped file, and matrix products of many tokens are as fast without packing. There are two exceptions.
        // The kernels of a quantised base are fast only on packed weights, which are no larger than unpacked weights.
        // Generation multiplies single tokens with float32 weights, which takes 0.75 times as long if the weights are
        // packed (decision 055).
        disable_prepacking: packs ? '0' : '1',
        ...folder,
      },
      // onnxruntime must not merge equal nodes. Our graph has merged them already, except nodes that a pass repeats to
      // save memory, which must stay separate.
      optimization: { disable_specified_optimizers: 'CommonSubexpressionElimination' },
    },
  };
}

class OnnxExecutable implements Executable {
  readonly #inputs: ReadonlyMap<string, Tensor>;
  readonly #outputs: readonly string[];
  #session: InferenceSession | null;

  constructor(graph: Graph, session: InferenceSession) {
    // Copies inputs and outputs, because the graph may grow after it was compiled.
    this.#inputs = new Map(graph.inputs);
    this.#outputs = [...graph.outputs.keys()];
    this.#session = session;
  }

  async run(feeds: Feeds): Promise<Record<string, Float32Array>> {
    const session = this.#session;
    if (session === null) throw engineError('ENGINE_DISPOSED', 'the executable has been disposed of');
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
