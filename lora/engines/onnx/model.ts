import { ancestorNodes } from '../../graph/gradients.ts';
import type { Graph, GraphNode, Tensor } from '../../graph/graph.ts';
import type { Operation } from '../../graph/operations.ts';
import { liveNodes } from '../../graph/passes/live-nodes.ts';
import { elementCount } from '../../graph/shapes.ts';
import type { WeightFile } from '../weights.ts';
import { lowerBlockedUse } from './blocked.ts';
import type { Emitter, Lowering, Provider } from './emitter.ts';
import { emitFloat16, lowerFloat16Product } from './float16.ts';
import { LOWERINGS } from './lower.ts';
import { bytesOf, ModelBuilder } from './model-builder.ts';
import { encodeModel, type OnnxInitializer } from './protobuf.ts';
import {
  type BlockNames,
  directionOf,
  emitDense,
  isQuantisedProduct,
  lowerRowScaledProduct,
  lowerTiledProduct,
  type RoundedRows,
} from './quantised.ts';
import {
  type BlockedWeight,
  denseBlocks,
  inferenceBlocks,
  locateStored,
  productBlocks,
  type QuantisedWeight,
  rowsRange,
  type StoredBlocks,
  type StoredWeight,
  tableRows,
  wholeRange,
} from './stored-weights.ts';
import { emitTable, lowerTableUse, type Table } from './tables.ts';

/**
 * Encodes a graph as an ONNX model. The model contains only what the outputs depend on. It refers to weights by the file
 * name of the weight file, without its folder, and by their location in this file.
 * @throws SwarmError ENGINE_WEIGHTS when the file lacks a weight or has it in another shape
 */
export function buildModel(
  graph: Graph,
  weights: WeightFile | null,
  provider: Provider,
  { roundActivations = true }: { /** See EngineOptions. @default true */ roundActivations?: boolean } = {},
): Uint8Array {
  const lowered = new LoweredGraph(provider, {
    isQuantised: weights?.quantised !== undefined,
    roundActivations,
  });
  for (const [name, tensor] of graph.inputs) lowered.addInput(`in:${name}`, tensor);
  const nodes = inOrder(graph);
  const used = new Set<Tensor>([...graph.outputs.values(), ...nodes.flatMap((node) => node.inputs)]);
  for (const [name, tensor] of graph.weights) {
    if (used.has(tensor)) lowered.addWeight(tensor, locateStored(name, tensor, weights));
  }
  for (const [tensor, data] of graph.constants) {
    if (used.has(tensor)) lowered.addInitializer(tensor, `c:${tensor.id}`, bytesOf(data));
  }
  const made = new Set(nodes.flatMap((node) => node.outputs));
  const namesOf = Map.groupBy(graph.outputs.keys(), (name) => graph.outputs.get(name)!);
  const addOutputs = (tensor: Tensor) => {
    for (const name of namesOf.get(tensor) ?? []) lowered.addOutput(name, tensor);
  };
  for (const tensor of namesOf.keys()) if (!made.has(tensor)) addOutputs(tensor);
  for (const node of nodes) {
    lowered.addNode(node, used);
    for (const tensor of node.outputs) addOutputs(tensor);
  }
  // onnxruntime orders nodes by walking back from the end of the list. If the list were in graph order, the gradients
  // of the first layer would be computed first, and everything that the other gradients read would be held until then.
  // Because the list is reversed, nodes run in graph order.
  lowered.model.nodes.reverse();
  return encodeModel(lowered.model);
}

/**
 * Lists the nodes that the outputs need. Nodes that only a scalar output needs, such as the loss, come last. If the
 * loss came first, all values that it needs would be computed before any gradient, and held until the gradients read
 * them.
 */
function inOrder(graph: Graph): GraphNode[] {
  const nodes = liveNodes(graph);
  const tensors = [...graph.outputs.values()].filter(({ shape }) => elementCount(shape) > 1);
  const first = new Set(ancestorNodes(nodes, ...tensors));
  return [...first, ...nodes.filter((node) => !first.has(node))];
}

interface LoweringOptions {
  /** Whether the base is stored in 8 or 4 bits. */
  readonly isQuantised: boolean;
  /** Whether activations are rounded to 8 bits; see `EngineOptions`. */
  readonly roundActivations: boolean;
}

/** Lowers a graph into a model node by node, and maps tensors of the graph to names of ONNX values. */
class LoweredGraph {
  readonly model: ModelBuilder;
  readonly #emitter: Emitter;
  readonly #options: LoweringOptions;
  readonly #names = new Map<Tensor, string>();
  readonly #weights = new Map<Tensor, StoredWeight>();
  readonly #roundedRows = new Map<string, RoundedRows>();
  readonly #float16 = new Map<string, string>();

  constructor(provider: Provider, options: LoweringOptions) {
    this.model = new ModelBuilder(provider);
    this.#emitter = this.model.emitter;
    this.#options = options;
  }

  /** Adds a weight. A quantised weight gets no ONNX value here, because every use of the weight dequantises it. */
  addWeight(tensor: Tensor, weight: StoredWeight): void {
    this.#weights.set(tensor, weight);
    if (weight.kind !== 'float32') return;
    const name = `w:${weight.name}`;
    this.addInitializer(tensor, name, wholeRange(weight));
    // Makes the weight an input with a default value instead of a constant. With a quantised base, onnxruntime packs
    // the constant operands of matrix products, and packing would copy these weights.
    if (this.#options.isQuantised && this.#emitter.provider === 'cpu') this.addInput(name, tensor);
  }

  addInput(name: string, tensor: Tensor): void {
    this.#names.set(tensor, name);
    this.model.inputs.push({ name, dtype: tensor.dtype, shape: tensor.shape });
  }

  addInitializer(tensor: Tensor, name: string, data: OnnxInitializer['data']): void {
    this.#names.set(tensor, name);
    this.model.initializers.push({ name, dtype: tensor.dtype, shape: tensor.shape, data });
  }

  addNode(node: GraphNode, used: ReadonlySet<Tensor>): void {
    const outputs = node.outputs.map((tensor) => `t:${tensor.id}`);
    for (const [index, tensor] of node.outputs.entries()) this.#names.set(tensor, outputs[index]!);
    // The kernel does not compute outputs that are not listed. Statistics that no node reads are therefore left out.
    const statistics = node.operation === 'rmsNorm' || node.operation === 'layerNorm';
    const unused = statistics && !node.outputs.slice(1).some((output) => used.has(output));
    if (isQuantisedProduct(node, (tensor) => this.#hasProduct(tensor))) {
      this.#addQuantisedProduct(node, outputs);
      return;
    }
    if (this.#addWeightRows(node, outputs)) return;
    if (node.inputs.some((tensor) => this.#blocked(tensor))) {
      this.#addBlockedUse(node, outputs);
      return;
    }
    const tableOf = (tensor: Tensor) => (this.#names.has(tensor) ? undefined : this.#tableOf(tensor));
    const others = node.inputs.map((tensor) =>
      tableOf(tensor) ? '' : (this.#names.get(tensor) ?? this.#dense(tensor)),
    );
    if (lowerTableUse(node, tableOf, others, outputs, this.#emitter)) return;
    const inputs = node.inputs.map((tensor, i) => others[i] || this.#dense(tensor));
    if (isFloat16Product(node)) {
      lowerFloat16Product(node, inputs, outputs, (name) => this.#inFloat16(name), this.#emitter);
      return;
    }
    const lower = LOWERINGS[node.operation] as Lowering<Operation>;
    lower(node, inputs, unused ? outputs.slice(0, 1) : outputs, this.#emitter);
  }

  /**
   * Adds a slice of rows of a float32 weight; returns false for any other node. On the processor, the slice
   * is a range of the weight file, without a copy. On a GPU, the bounds of the slice are variables, so
   * onnxruntime copies the rows for each use. With constant bounds, it would compute the slice once and keep
   * it on the device beside the weight.
   */
  #addWeightRows(node: GraphNode, [output]: readonly string[]): boolean {
    const weight = this.#weights.get(node.inputs[0]!);
    if (node.operation !== 'slice' || weight?.kind !== 'float32') return false;
    const { axis, start, end } = (node as GraphNode<'slice'>).attributes;
    if (axis !== 0) return false;
    if (this.#emitter.provider === 'cpu') {
      this.addInitializer(node.outputs[0]!, output!, rowsRange(weight, start, end));
    } else {
      const bounds = [start, end, axis].map((value) => this.#emitter.variable([value]));
      this.#emitter.emit('Slice', [`w:${weight.name}`, ...bounds], { outputs: [output!] });
    }
    return true;
  }

  #quantised(tensor: Tensor): QuantisedWeight | undefined {
    const weight = this.#weights.get(tensor);
    return weight?.kind === 'quantised' ? weight : undefined;
  }

  /**
   * Returns whether a kernel multiplies with the quantised weight directly. No such kernel is used on a GPU, because it
   * would need a second, transposed copy of the weight. Dequantising the matrix right before each matrix product is
   * fast on a GPU.
   */
  #hasProduct(tensor: Tensor): boolean {
    if (this.#emitter.provider !== 'cpu') return false;
    const bits = this.#quantised(tensor)?.entry.bits;
    return bits === 4 || (bits === 8 && this.#options.roundActivations);
  }

  #addQuantisedProduct(node: GraphNode<'gemm'>, outputs: readonly string[]): void {
    const weight = this.#quantised(node.inputs[1]!)!;
    const { entry } = weight;
    const names = this.#declareBlocks(productBlocks(weight, directionOf(node, entry)), { constant: true });
    const inputs = node.inputs.map((tensor) => this.#names.get(tensor) ?? '');
    if (entry.bits === 4) {
      lowerTiledProduct(node, inputs, outputs, { entry, names }, this.#emitter);
    } else {
      lowerRowScaledProduct(node, inputs, outputs, { names, roundedRows: this.#roundedRows }, this.#emitter);
    }
  }

  #blocked(tensor: Tensor): BlockedWeight | undefined {
    const weight = this.#weights.get(tensor);
    return weight?.kind === 'blocked' ? weight : undefined;
  }

  #addBlockedUse(node: GraphNode, outputs: readonly string[]): void {
    const inputs = node.inputs.map((tensor) => this.#names.get(tensor) ?? '');
    const useOf = (tensor: Tensor) => {
      const weight = this.#blocked(tensor);
      if (weight === undefined) return undefined;
      const names = this.#declareBlocks(inferenceBlocks(weight), { constant: true });
      return { entry: weight.entry, names };
    };
    const { roundActivations } = this.#options;
    lowerBlockedUse(node, useOf, inputs, outputs, { emitter: this.#emitter, roundActivations });
  }

  #inFloat16(name: string): string {
    const known = this.#float16.get(name) ?? emitFloat16(name, this.#emitter);
    this.#float16.set(name, known);
    return known;
  }

  /** Emits a quantised weight as a float32 matrix. */
  #dense(tensor: Tensor): string {
    const table = this.#tableOf(tensor);
    if (table !== undefined) {
      const dense = emitTable(table, this.#emitter);
      this.#names.set(tensor, dense);
      return dense;
    }
    const weight = this.#quantised(tensor)!;
    const names = this.#declareBlocks(denseBlocks(weight), { constant: false });
    const dense = emitDense(weight.entry, names, this.#emitter);
    // On the CPU, all matrix products with this weight share one dense matrix. On a GPU, each of them
    // dequantises the weight again, so that only one dense matrix exists at a time.
    if (this.#emitter.provider === 'cpu') this.#names.set(tensor, dense);
    return dense;
  }

  #tableOf(tensor: Tensor): Table | undefined {
    const weight = this.#weights.get(tensor);
    if (weight?.kind !== 'table') return undefined;
    return {
      entry: weight.entry,
      rows: (start, end) => this.#declareBlocks(tableRows(weight, start, end), { constant: false }),
    };
  }

  #declareBlocks({ names, initializers }: StoredBlocks, options: { constant: boolean }): BlockNames {
    this.model.declare(initializers, options);
    return names;
  }

  addOutput(name: string, tensor: Tensor): void {
    this.#emitter.emit('Identity', [this.#names.get(tensor)!], { outputs: [`out:${name}`] });
    this.model.outputs.push({ name: `out:${name}`, dtype: tensor.dtype, shape: tensor.shape });
  }
}

function isFloat16Product(node: GraphNode): node is GraphNode<'gemm'> {
  return node.operation === 'gemm' && (node as GraphNode<'gemm'>).attributes.float16 === true;
}
