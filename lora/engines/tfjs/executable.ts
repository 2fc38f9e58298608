import { isSwarmError } from '../../../common/errors.ts';
import type { ConstantData, Graph, GraphNode, Tensor } from '../../graph/graph.ts';
import type { Operation } from '../../graph/operations.ts';
import { liveNodes } from '../../graph/passes/live-nodes.ts';
import { engineError } from '../errors.ts';
import { bindFeeds, type Feeds } from '../feeds.ts';
import type { Executable } from '../types.ts';
import type { WeightFile } from '../weights.ts';
import { type IdRange, idRanges, toInt32 } from './ids.ts';
import { LOWERINGS, type Lowering, type TensorFlow, type Value } from './lower.ts';
import type { WeightLease, WeightStore } from './weight-store.ts';

/**
 * Maximum number of tensors that one process creates. libtensorflow's add-on numbers its tensors with an int32 that
 * starts at 0 and never reuses a number (next_tensor_id_ in tfjs-node's tfjs_backend.cc), so it overflows after 2^31
 * tensors. We read tfjs-core's own tensor ids instead, which grow at about the same rate. In one training step of a
 * tiny model, tfjs-core's ids grew by 741 and the add-on's numbers by 738. Half of the range leaves room for operations
 * that create more tensors in the add-on than in tfjs-core. At 30,000 tensors per second, the rate of that model on a
 * processor, the limit is reached after 10 hours.
 */
export const TENSOR_LIMIT = 2 ** 30;

interface Step {
  readonly node: GraphNode;
  /** Tensors that no later step reads, including results of this step that are never read. */
  readonly dead: readonly Tensor[];
}

export interface TfjsDeps {
  readonly tf: TensorFlow;
  readonly store: WeightStore;
  /** Maximum number of tensors; see {@link TENSOR_LIMIT}. */
  readonly tensorLimit: number;
}

/** Runs a graph node by node. Intermediate values are disposed of after their last use; weights and constants stay. */
export class TfjsExecutable implements Executable {
  readonly #tf: TensorFlow;
  readonly #tensorLimit: number;
  readonly #inputs: ReadonlyMap<string, Tensor>;
  readonly #outputs: ReadonlyMap<string, Tensor>;
  readonly #steps: readonly Step[];
  readonly #ranges: ReadonlyMap<Tensor, IdRange>;
  /** Weights and constants, which stay on the device between runs. */
  readonly #resident = new Map<Tensor, Value>();
  readonly #leases: WeightLease[] = [];
  #disposed = false;

  private constructor(graph: Graph, { tf, tensorLimit }: TfjsDeps, nodes: readonly GraphNode[]) {
    this.#tf = tf;
    this.#tensorLimit = tensorLimit;
    // Copies the maps, because the graph may grow after it was compiled.
    this.#inputs = new Map(graph.inputs);
    this.#outputs = new Map(graph.outputs);
    this.#steps = stepsOf(nodes, new Set(graph.inputs.values()), new Set(graph.outputs.values()));
    this.#ranges = idRanges(nodes);
  }

  /** @throws SwarmError ENGINE_WEIGHTS, ENGINE_COMPILE, ENGINE_EXHAUSTED */
  static async compile(graph: Graph, weights: WeightFile | null, deps: TfjsDeps): Promise<TfjsExecutable> {
    const nodes = liveNodes(graph);
    const executable = new TfjsExecutable(graph, deps, nodes);
    const used = new Set<Tensor>([...graph.outputs.values(), ...nodes.flatMap((node) => node.inputs)]);
    try {
      for (const [tensor, data] of graph.constants) {
        if (used.has(tensor)) executable.#resident.set(tensor, executable.#send('a constant', tensor, data));
      }
      // Sends the weights one after the other, because a weight is in memory twice while it is sent.
      for (const [name, tensor] of graph.weights) {
        if (!used.has(tensor)) continue;
        const lease = await deps.store.acquire(name, tensor, weights);
        executable.#leases.push(lease);
        executable.#resident.set(tensor, lease.value);
      }
      return executable;
    } catch (cause) {
      await executable.dispose();
      if (isSwarmError(cause)) throw cause;
      const message = `tfjs cannot compile the graph: ${messageOf(cause)}`;
      throw engineError('ENGINE_COMPILE', message, { engine: 'tfjs' }, { cause });
    }
  }

  async run(feeds: Feeds): Promise<Record<string, Float32Array>> {
    if (this.#disposed) throw engineError('ENGINE_DISPOSED', 'the executable has been disposed of');
    const bound = bindFeeds(this.#inputs, feeds);
    const live = new Map<Tensor, Value>();
    const valueIn = (tensor: Tensor) => live.get(tensor) ?? this.#resident.get(tensor)!;
    try {
      for (const { name, tensor, data } of bound) live.set(tensor, this.#send(name, tensor, data));
      for (const { node, dead } of this.#steps) {
        const lower = LOWERINGS[node.operation] as Lowering<Operation>;
        const results = this.#tf.tidy(() => lower(this.#tf, node.inputs.map(valueIn), node));
        for (const [index, output] of node.outputs.entries()) live.set(output, results[index]!);
        for (const tensor of dead) {
          live.get(tensor)!.dispose();
          live.delete(tensor);
        }
      }
      const outputs: Record<string, Float32Array> = {};
      for (const [name, tensor] of this.#outputs) {
        // Copies the values, because a backend may return its own array or the caller's.
        outputs[name] = (await valueIn(tensor).data<'float32'>()).slice();
      }
      return outputs;
    } catch (cause) {
      if (isSwarmError(cause)) throw cause;
      throw engineError('ENGINE_RUN', `running the graph failed: ${messageOf(cause)}`, {}, { cause });
    } finally {
      for (const value of live.values()) value.dispose();
    }
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    const leased = new Set(this.#leases.map(({ value }) => value));
    for (const value of this.#resident.values()) if (!leased.has(value)) value.dispose();
    this.#resident.clear();
    for (const lease of this.#leases.splice(0)) await lease.release();
  }

  #send(name: string, tensor: Tensor, data: ConstantData): Value {
    const shape = [...tensor.shape];
    const value =
      data instanceof Float32Array
        ? this.#tf.tensor(data, shape, 'float32')
        : this.#tf.tensor(toInt32(name, data, this.#ranges.get(tensor)), shape, 'int32');
    const limit = this.#tensorLimit;
    if (value.id < limit) return value;
    value.dispose();
    throw engineError(
      'ENGINE_EXHAUSTED',
      `tfjs has created ${value.id} tensors in this process; the limit is ${limit}`,
      { engine: 'tfjs', tensors: value.id, limit },
    );
  }
}

/**
 * Returns the nodes in graph order. Each node has a list of the inputs and intermediate values that no later node
 * reads, so that their memory can be freed after the node.
 */
function stepsOf(
  nodes: readonly GraphNode[],
  inputs: ReadonlySet<Tensor>,
  outputs: ReadonlySet<Tensor>,
): Step[] {
  const read = new Set(outputs);
  const steps = nodes.toReversed().map((node) => {
    const dead = new Set<Tensor>();
    for (const tensor of [...node.outputs, ...node.inputs]) {
      if (!read.has(tensor) && (tensor.node !== null || inputs.has(tensor))) dead.add(tensor);
      read.add(tensor);
    }
    return { node, dead: [...dead] };
  });
  return steps.reverse();
}

function messageOf(cause: unknown): string {
  return (cause instanceof Error ? cause.message : String(cause)).trim();
}
