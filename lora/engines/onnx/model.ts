import { basename } from 'node:path';
import { ancestorNodes } from '../../graph/gradients.ts';
import type { Graph, GraphNode, Tensor } from '../../graph/graph.ts';
import type { Operation } from '../../graph/operations.ts';
import { elementCount } from '../../graph/shapes.ts';
import {
  locateWeight,
  type QuantisedEntry,
  type TableEntry,
  type WeightEntry,
  type WeightFile,
} from '../weights.ts';
import { emitFloat16, lowerFloat16Product } from './float16.ts';
import { type Emitter, LOWERINGS, type Lowering, type Provider } from './lower.ts';
import { encodeModel, type OnnxInitializer, type OnnxNode, type OnnxValue } from './protobuf.ts';
import {
  type BlockNames,
  type Direction,
  directionOf,
  emitDense,
  isQuantisedProduct,
  locateRounded,
  lowerRowScaledProduct,
  lowerTiledProduct,
  type RoundedRows,
} from './quantised.ts';
import { emitTable, lowerTableUse, type Table } from './tables.ts';

/**
 * A graph as the bytes of an ONNX model. Only what the outputs depend on goes in; weights are references into the
 * weight file, by its base name.
 * @throws SwarmError ENGINE_WEIGHTS when a weight is missing from the file or has another shape there
 */
export function buildModel(
  graph: Graph,
  weights: WeightFile | null,
  provider: Provider,
  { roundActivations = true }: { /** See EngineOptions. @default true */ roundActivations?: boolean } = {},
): Uint8Array {
  const lowered = new LoweredGraph(provider, weights, roundActivations);
  for (const [name, tensor] of graph.inputs) lowered.addInput(`in:${name}`, tensor);
  const nodes = inOrder(graph);
  const used = new Set<Tensor>([...graph.outputs.values(), ...nodes.flatMap((node) => node.inputs)]);
  for (const [name, tensor] of graph.weights) {
    if (used.has(tensor)) lowered.addWeight(tensor, name);
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
  // onnxruntime walks from the last results of the list to what they need, so that of nodes in order the gradients of the
  // first layer would come first and everything that the others read would be held until then. Backwards, it runs them in
  // the order of the graph.
  lowered.nodes.reverse();
  return encodeModel(lowered);
}

/**
 * Nodes that outputs need, those that only a scalar such as the loss needs at the end: walked to first, it would have
 * everything computed that it needs before what the gradients need of the same, which would be held meanwhile.
 */
function inOrder({ nodes, outputs }: Graph): GraphNode[] {
  const tensors = [...outputs.values()].filter(({ shape }) => elementCount(shape) > 1);
  const first = new Set(ancestorNodes(nodes, ...tensors));
  return [...first, ...ancestorNodes(nodes, ...outputs.values()).filter((node) => !first.has(node))];
}

class LoweredGraph {
  readonly nodes: OnnxNode[] = [];
  readonly initializers: OnnxInitializer[] = [];
  readonly inputs: OnnxValue[] = [];
  readonly outputs: OnnxValue[] = [];
  readonly #names = new Map<Tensor, string>();
  readonly #constants = new Map<string, string>();
  readonly #emitter: Emitter;
  readonly #weights: WeightFile | null;
  readonly #roundActivations: boolean;
  readonly #quantised = new Map<Tensor, { name: string; entry: QuantisedEntry }>();
  readonly #tables = new Map<Tensor, Table>();
  readonly #declared = new Set<string>();
  /** Of weights in float32. */
  readonly #places = new Map<Tensor, { name: string; entry: WeightEntry }>();
  readonly #roundedRows = new Map<string, RoundedRows>();
  readonly #float16 = new Map<string, string>();
  #fresh = 0;

  constructor(provider: Provider, weights: WeightFile | null, roundActivations: boolean) {
    this.#emitter = this.#emitterFor(provider);
    this.#weights = weights;
    this.#roundActivations = roundActivations;
  }

  addWeight(tensor: Tensor, name: string): void {
    const quantised = locateRounded(name, tensor, this.#weights, 'quantised');
    if (quantised !== null) {
      this.#quantised.set(tensor, { name, entry: quantised });
      return;
    }
    const table = locateRounded(name, tensor, this.#weights, 'tables');
    if (table !== null) {
      this.#tables.set(tensor, {
        entry: table,
        rows: (start, end) => this.#tableRows(`r:${name}`, table, start, end),
      });
      return;
    }
    const { path, entry } = locateWeight(name, tensor, this.#weights);
    this.addInitializer(tensor, `w:${name}`, placeOf(path, entry));
    // With a default value, no constant: products of a quantised base are packed, and these would be copied for it.
    if (this.#weights?.quantised && this.#emitter.provider === 'cpu') this.addInput(`w:${name}`, tensor);
    this.#places.set(tensor, { name: `w:${name}`, entry });
  }

  addInput(name: string, tensor: Tensor): void {
    this.#names.set(tensor, name);
    this.inputs.push({ name, dtype: tensor.dtype, shape: tensor.shape });
  }

  addInitializer(tensor: Tensor, name: string, data: OnnxInitializer['data']): void {
    this.#names.set(tensor, name);
    this.initializers.push({ name, dtype: tensor.dtype, shape: tensor.shape, data });
  }

  addNode(node: GraphNode, used: ReadonlySet<Tensor>): void {
    const outputs = node.outputs.map((tensor) => `t:${tensor.id}`);
    for (const [index, tensor] of node.outputs.entries()) this.#names.set(tensor, outputs[index]!);
    // The kernel does not compute what is not asked for.
    const statistics = node.operation === 'rmsNorm' || node.operation === 'layerNorm';
    const unused = statistics && !node.outputs.slice(1).some((output) => used.has(output));
    if (isQuantisedProduct(node, (tensor) => this.#hasProduct(tensor))) {
      this.#addQuantisedProduct(node, outputs);
      return;
    }
    if (this.#addWeightRows(node, outputs)) return;
    const tableOf = (tensor: Tensor) => (this.#names.has(tensor) ? undefined : this.#tables.get(tensor));
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
   * Rows of a float32 weight. On the processor they are a place in its file, of which nothing is copied. On a GPU they
   * are copied when they are needed: onnxruntime would upload them beside the weight, as it cuts what is constant only once.
   */
  #addWeightRows(node: GraphNode, [output]: readonly string[]): boolean {
    const [weight] = node.inputs;
    const place = this.#places.get(weight!);
    if (node.operation !== 'slice' || place === undefined) return false;
    const { axis, start, end } = (node as GraphNode<'slice'>).attributes;
    if (axis !== 0) return false;
    if (this.#emitter.provider === 'cpu') {
      const bytes = place.entry.length / weight!.shape[0]!;
      const part = {
        ...place.entry,
        offset: place.entry.offset + start * bytes,
        length: (end - start) * bytes,
      };
      this.addInitializer(node.outputs[0]!, output!, placeOf(this.#weights!.path, part));
    } else {
      const bounds = [start, end, axis].map((value) => this.#emitter.variable([value]));
      this.#emitter.emit('Slice', [place.name, ...bounds], { outputs: [output!] });
    }
    return true;
  }

  /**
   * Whether there is a kernel for products with the tensor as it is kept. On a GPU none is used: they need a second,
   * transposed copy of the weight, and making the matrix right before a product is quick there.
   */
  #hasProduct(tensor: Tensor): boolean {
    if (this.#emitter.provider !== 'cpu') return false;
    const bits = this.#quantised.get(tensor)?.entry.bits;
    return bits === 4 || (bits === 8 && this.#roundActivations);
  }

  #addQuantisedProduct(node: GraphNode<'gemm'>, outputs: readonly string[]): void {
    const [, weight] = node.inputs;
    const { name, entry } = this.#quantised.get(weight!)!;
    const direction = directionOf(node, entry);
    const names = this.#blocks(`q:${name}:${direction}`, entry, direction, { constant: true });
    const inputs = node.inputs.map((tensor) => this.#names.get(tensor) ?? '');
    if (entry.bits === 4) {
      lowerTiledProduct(node, inputs, outputs, { entry, names }, this.#emitter);
    } else {
      lowerRowScaledProduct(node, inputs, outputs, { names, roundedRows: this.#roundedRows }, this.#emitter);
    }
  }

  #inFloat16(name: string): string {
    const known = this.#float16.get(name) ?? emitFloat16(name, this.#emitter);
    this.#float16.set(name, known);
    return known;
  }

  #dense(tensor: Tensor): string {
    const table = this.#tables.get(tensor);
    if (table !== undefined) {
      const dense = emitTable(table, this.#emitter);
      this.#names.set(tensor, dense);
      return dense;
    }
    const { name, entry } = this.#quantised.get(tensor)!;
    const names = this.#blocks(`d:${name}`, entry, 'plain', { constant: false });
    const dense = emitDense(entry, names, this.#emitter);
    // On a GPU made anew for each use, as every product has one: no more than one need be there at a time.
    if (this.#emitter.provider === 'cpu') this.#names.set(tensor, dense);
    return dense;
  }

  /** Initializers of a copy of a quantised weight, declared once: constants as products take them, others as emitDense does. */
  #blocks(
    name: string,
    entry: QuantisedEntry,
    direction: Direction,
    { constant }: { constant: boolean },
  ): BlockNames {
    const names = { codes: `${name}:codes`, scales: `${name}:scales` };
    if (this.#declared.has(name)) return names;
    this.#declared.add(name);
    const { codes, scales } = entry[direction];
    const [rows, blocks, bytes] = codes.shape as readonly [number, number, number];
    const flat = [rows, blocks * bytes];
    const [dtype, codesShape, scalesShape] =
      entry.bits === 4
        ? (['uint8', constant ? codes.shape : flat, scales.shape] as const)
        : (['int8', flat, constant ? scales.shape : [rows]] as const);
    const values: [OnnxValue, WeightEntry][] = [
      [{ name: names.codes, dtype, shape: codesShape }, codes],
      [{ name: names.scales, dtype: 'float32', shape: scalesShape }, scales],
    ];
    for (const [value, place] of values) {
      this.initializers.push({ ...value, data: placeOf(this.#weights!.path, place) });
      if (!constant) this.inputs.push(value);
    }
    return names;
  }

  /** Initializers of some rows of a table: their places in the file, of which nothing is copied. */
  #tableRows(table: string, { shape, codes, scales }: TableEntry, start: number, end: number): BlockNames {
    const name = `${table}:${start}-${end}`;
    const names = { codes: `${name}:codes`, scales: `${name}:scales` };
    if (this.#declared.has(name)) return names;
    this.#declared.add(name);
    const [, columns] = shape;
    const values: [OnnxValue, WeightEntry, bytesOfRow: number][] = [
      [{ name: names.codes, dtype: 'int8', shape: [end - start, columns] }, codes, columns],
      [{ name: names.scales, dtype: 'float32', shape: [end - start] }, scales, 4],
    ];
    for (const [value, place, bytes] of values) {
      const part = { ...place, offset: place.offset + start * bytes, length: (end - start) * bytes };
      this.initializers.push({ ...value, data: placeOf(this.#weights!.path, part) });
      // No constants: onnxruntime would make the numbers once and keep them.
      this.inputs.push(value);
    }
    return names;
  }

  addOutput(name: string, tensor: Tensor): void {
    this.#emitter.emit('Identity', [this.#names.get(tensor)!], { outputs: [`out:${name}`] });
    this.outputs.push({ name: `out:${name}`, dtype: tensor.dtype, shape: tensor.shape });
  }

  #emitterFor(provider: Provider): Emitter {
    return {
      provider,
      emit: (type, inputs, options = {}) => {
        const outputs = options.outputs ?? [`f:${this.#fresh++}`];
        const { domain = '', attributes = {} } = options;
        this.nodes.push({ type, inputs, outputs, domain, attributes });
        return outputs[0]!;
      },
      integers: (values) => this.#shared('int64', [values.length], BigInt64Array.from(values, BigInt)),
      variable: (values) => this.#variable(values),
      scalar: (value) => this.#shared('float32', [], Float32Array.of(value)),
    };
  }

  /** An input that has a default, which nobody ever feeds. */
  #variable(values: readonly number[]): string {
    const name = `v:${values.join()}`;
    if (this.#declared.has(name)) return name;
    this.#declared.add(name);
    const value = { name, dtype: 'int64', shape: [values.length] } as const;
    this.initializers.push({ ...value, data: bytesOf(BigInt64Array.from(values, BigInt)) });
    this.inputs.push(value);
    return name;
  }

  /** A small constant that the lowering itself needs, once for each value. */
  #shared(dtype: OnnxValue['dtype'], shape: readonly number[], data: Float32Array | BigInt64Array): string {
    const value = `${dtype}:${data.join()}`;
    const known = this.#constants.get(value);
    if (known !== undefined) return known;
    const name = `s:${this.#constants.size}`;
    this.initializers.push({ name, dtype, shape, data: bytesOf(data) });
    this.#constants.set(value, name);
    return name;
  }
}

function isFloat16Product(node: GraphNode): node is GraphNode<'gemm'> {
  return node.operation === 'gemm' && (node as GraphNode<'gemm'>).attributes.float16 === true;
}

function placeOf(path: string, { offset, length }: WeightEntry): OnnxInitializer['data'] {
  return { file: basename(path), offset, length };
}

function bytesOf(data: Float32Array | BigInt64Array): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
