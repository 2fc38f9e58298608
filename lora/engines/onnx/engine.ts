import { dirname } from 'node:path';
import { InferenceSession, Tensor as OnnxTensor } from 'onnxruntime-node';
import { SwarmError } from '../../../protocol/errors.ts';
import type { Graph } from '../../graph/graph.ts';
import { elementCount, formatShape } from '../../graph/shapes.ts';
import type { Engine, EngineName, EngineOptions, Executable, Feeds, WeightFile } from '../engine.ts';
import { buildModel } from './model.ts';

const PROVIDERS: Readonly<Record<EngineName, string>> = { 'onnx-cpu': 'cpu', 'onnx-webgpu': 'webgpu' };

export async function createOnnxEngine(name: EngineName, options: EngineOptions): Promise<Engine> {
  return {
    name,
    async compile(graph, weights) {
      const bytes = buildModel(graph, weights);
      try {
        const session = await InferenceSession.create(bytes, sessionOptions(name, options, weights));
        return new OnnxExecutable(graph, session);
      } catch (cause) {
        throw new SwarmError(
          'ENGINE_COMPILE',
          `${name} cannot compile the graph: ${messageOf(cause)}`,
          { engine: name },
          { cause },
        );
      }
    },
  };
}

function sessionOptions(
  name: EngineName,
  options: EngineOptions,
  weights: WeightFile | null,
): InferenceSession.SessionOptions {
  const folder =
    weights === null ? {} : { model_external_initializers_file_folder_path: dirname(weights.path) };
  return {
    executionProviders: [PROVIDERS[name]],
    intraOpNumThreads: options.threads,
    interOpNumThreads: 1,
    graphOptimizationLevel: 'all',
    // The arena keeps the peak of every size class: 3.8 GB instead of 1.4 to 2.1 for a 135M model, no faster.
    enableCpuMemArena: false,
    // The plan for all activations at once costs 0.6 GB at 135M parameters, and gains no time.
    enableMemPattern: false,
    logSeverityLevel: 3,
    extra: {
      session: {
        // Threads that spin while they wait take the cores from the daemon and from everybody else's trainer.
        intra_op: { allow_spinning: '0' },
        // Every product would keep its own packed copy of its weight: twice the weights for training, which uses
        // each of them forward and transposed. Unpacked, they stay in the mapped file, and it is no slower.
        disable_prepacking: '1',
        ...folder,
      },
    },
  };
}

class OnnxExecutable implements Executable {
  readonly #graph: Graph;
  #session: InferenceSession | null;

  constructor(graph: Graph, session: InferenceSession) {
    this.#graph = graph;
    this.#session = session;
  }

  async run(feeds: Feeds): Promise<Record<string, Float32Array>> {
    const session = this.#session;
    if (session === null)
      throw new SwarmError('ENGINE_DISPOSED', 'the executable was disposed; compile the graph again');
    const inputs = this.#bind(feeds);
    let results: InferenceSession.ReturnType;
    try {
      results = await session.run(inputs);
    } catch (cause) {
      throw new SwarmError('ENGINE_RUN', `running the graph failed: ${messageOf(cause)}`, {}, { cause });
    }
    const outputs: Record<string, Float32Array> = {};
    for (const name of this.#graph.outputs.keys()) {
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
    for (const [name, tensor] of this.#graph.inputs) {
      const data = feeds[name];
      const expected = `${tensor.dtype} ${formatShape(tensor.shape)}`;
      if (data === undefined) {
        throw new SwarmError('ENGINE_FEED', `no value was fed for ${name}, ${expected}`, { name, expected });
      }
      const dtype = data instanceof Float32Array ? 'float32' : 'int64';
      if (dtype !== tensor.dtype || data.length !== elementCount(tensor.shape)) {
        throw new SwarmError(
          'ENGINE_FEED',
          `${name} needs ${expected}; ${data.length} values of ${dtype} were fed`,
          {
            name,
            expected,
            found: { dtype, length: data.length },
          },
        );
      }
      bound[`in:${name}`] =
        data instanceof Float32Array
          ? new OnnxTensor('float32', data, tensor.shape)
          : new OnnxTensor('int64', data, tensor.shape);
    }
    for (const name of Object.keys(feeds)) {
      if (!this.#graph.inputs.has(name)) {
        throw new SwarmError('ENGINE_FEED', `${name} was fed, but the graph has no such input`, { name });
      }
    }
    return bound;
  }
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
