import { graphError } from './errors.ts';
import type { Operation, OperationAttributes } from './operations.ts';
import { elementCount, formatShape, type Shape, sameShape } from './shapes.ts';

export type DType = 'float32' | 'int64';

/**
 * A value of the graph, with a shape but without data. `node` is the node that computes the value; null for
 * inputs, weights and constants.
 */
export interface Tensor {
  readonly graph: Graph;
  readonly id: number;
  readonly shape: Shape;
  readonly dtype: DType;
  readonly node: GraphNode | null;
}

export interface GraphNode<K extends Operation = Operation> {
  readonly operation: K;
  readonly attributes: OperationAttributes[K];
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  readonly gradient: GradientRule | null;
}

/** The input of a node's gradient rule in the backward pass. */
export interface Backward {
  /** Gradient of the node's first output. */
  readonly gradient: Tensor;
  /**
   * Returns whether an input depends on a trainable tensor. If it does not, a gradient rule may skip the
   * input.
   */
  needs(input: number): boolean;
  /**
   * Adds to the gradient of an input. `make` gets the sum of earlier contributions (null if there is none) and returns
   * the new sum, so that a matrix product can accumulate without a separate addition. `make` is not called if the input
   * needs no gradient.
   */
  contribute(input: number, make: (sum: Tensor | null) => Tensor): void;
  /** Adds the result of `make` to the gradient of an input with a separate addition, as most gradient rules do. */
  add(input: number, make: () => Tensor): void;
}

/** Appends the nodes that compute the gradients of a node's inputs from the gradient of its output. */
export type GradientRule = (backward: Backward) => void;

export type ConstantData = Float32Array | BigInt64Array;

interface OutputShape {
  readonly shape: Shape;
  readonly dtype?: DType;
}

/**
 * A computation with static shapes, built once and compiled by an engine. Nodes are listed in the order in which they
 * were added, which is a topological order. Equal operations on equal operands are one node, and equal constants are
 * one tensor. Sharing never changes a result, because all operations are pure.
 */
export class Graph {
  readonly inputs = new Map<string, Tensor>();
  readonly weights = new Map<string, Tensor>();
  readonly constants = new Map<Tensor, ConstantData>();
  readonly outputs = new Map<string, Tensor>();
  readonly nodes: GraphNode[] = [];
  #tensors = 0;
  readonly #shared = new Map<string, readonly Tensor[]>();
  readonly #sharedConstants = new Map<string, Tensor>();

  /**
   * Returns an input: a value that is fed at every run, such as a batch or a trainable parameter. The same name returns
   * the same tensor.
   * @throws SwarmError GRAPH_NAME when another tensor has the name
   */
  input(name: string, shape: Shape, dtype: DType = 'float32'): Tensor {
    return this.#named(this.inputs, this.weights, name, shape, dtype);
  }

  /**
   * Returns a frozen float32 weight of the base. The engine finds the weight by name in the weight file. The same name
   * returns the same tensor (tied weights).
   * @throws SwarmError GRAPH_NAME when another tensor has the name
   */
  weight(name: string, shape: Shape): Tensor {
    return this.#named(this.weights, this.inputs, name, shape, 'float32');
  }

  /**
   * Returns a small constant that is stored in the graph. Copies the data. Calls with equal constants return
   * the same tensor.
   */
  constant(shape: Shape, data: ConstantData): Tensor {
    checkShape('constant', shape);
    if (data.length !== elementCount(shape)) {
      throw graphError(
        'GRAPH_SHAPE',
        `constant: ${data.length} values do not fill shape ${formatShape(shape)}`,
        { operation: 'constant', shapes: [shape], length: data.length },
      );
    }
    const dtype = data instanceof Float32Array ? 'float32' : 'int64';
    const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    const key = `${dtype}${formatShape(shape)}${bytes.toString('latin1')}`;
    const known = this.#sharedConstants.get(key);
    if (known !== undefined) return known;
    const tensor = this.#tensor(shape, dtype, null);
    this.constants.set(tensor, data.slice());
    this.#sharedConstants.set(key, tensor);
    return tensor;
  }

  /**
   * Makes a tensor an output of every run, under a name.
   * @throws SwarmError GRAPH_NAME when another tensor has the name, GRAPH_MIXED when the tensor belongs to another
   * graph, GRAPH_DTYPE when it is not float32
   */
  output(name: string, tensor: Tensor): void {
    this.#checkOwn('output', tensor);
    if (tensor.dtype !== 'float32') {
      throw graphError('GRAPH_DTYPE', `output ${name} is ${tensor.dtype}; outputs must be float32`, {
        name,
      });
    }
    const taken = this.outputs.get(name);
    if (taken !== undefined && taken !== tensor) {
      throw graphError('GRAPH_NAME', `the graph already has another output ${name}`, {
        name,
      });
    }
    this.outputs.set(name, tensor);
  }

  /**
   * Appends an operation, or returns the outputs of an equal operation that the graph has already. The builders in ops/
   * call this after their shape checks; models call the builders.
   */
  apply<K extends Operation>(
    operation: K,
    inputs: readonly Tensor[],
    attributes: OperationAttributes[K],
    outputs: readonly OutputShape[],
    gradient: GradientRule | null,
  ): readonly Tensor[] {
    for (const input of inputs) this.#checkOwn(operation, input);
    // Nodes with a custom gradient are never shared, because gradient rules cannot be compared.
    const key =
      operation === 'customGradient'
        ? null
        : `${operation}(${inputs.map((input) => input.id)})${JSON.stringify(attributes)}`;
    const known = key === null ? undefined : this.#shared.get(key);
    if (known !== undefined) return known;

    const made: Tensor[] = [];
    const node: GraphNode<K> = { operation, attributes, inputs: [...inputs], outputs: made, gradient };
    for (const { shape, dtype } of outputs) {
      checkShape(operation, shape);
      made.push(this.#tensor(shape, dtype ?? 'float32', node as unknown as GraphNode));
    }
    this.nodes.push(node as unknown as GraphNode);
    if (key !== null) this.#shared.set(key, made);
    return made;
  }

  /**
   * Appends a copy of a node of this graph or of another graph. The inputs of the copy must have the same shapes as the
   * inputs of the node. Unlike `apply`, this method appends a node even if the graph has an equal one. The copy has no
   * gradient rule, because a rule refers to the tensors that it was made for.
   */
  repeat(node: GraphNode, inputs: readonly Tensor[]): readonly Tensor[] {
    for (const input of inputs) this.#checkOwn(node.operation, input);
    const outputs: Tensor[] = [];
    const { operation, attributes } = node;
    const copy: GraphNode = { operation, attributes, inputs: [...inputs], outputs, gradient: null };
    for (const { shape, dtype } of node.outputs) outputs.push(this.#tensor(shape, dtype, copy));
    this.nodes.push(copy);
    return outputs;
  }

  #named(
    own: Map<string, Tensor>,
    other: Map<string, Tensor>,
    name: string,
    shape: Shape,
    dtype: DType,
  ): Tensor {
    checkShape(name, shape);
    const known = own.get(name);
    if (
      other.has(name) ||
      (known !== undefined && (known.dtype !== dtype || !sameShape(known.shape, shape)))
    ) {
      const taken = known ?? other.get(name);
      throw graphError(
        'GRAPH_NAME',
        `cannot add ${name} ${dtype} ${formatShape(shape)}: the graph already has ${taken?.dtype} ${formatShape(taken?.shape ?? [])} under that name`,
        { name, shapes: [shape, taken?.shape] },
      );
    }
    if (known !== undefined) return known;
    const tensor = this.#tensor(shape, dtype, null);
    own.set(name, tensor);
    return tensor;
  }

  #tensor(shape: Shape, dtype: DType, node: GraphNode | null): Tensor {
    return { graph: this, id: this.#tensors++, shape: [...shape], dtype, node };
  }

  #checkOwn(operation: string, tensor: Tensor): void {
    if (tensor.graph !== this) {
      throw graphError(
        'GRAPH_MIXED',
        `${operation}: tensor ${tensor.id} ${formatShape(tensor.shape)} belongs to another graph`,
        { operation, tensor: tensor.id },
      );
    }
  }
}

/** @throws SwarmError GRAPH_DTYPE when an operand lacks the element type that the operation needs */
export function requireDType(operation: string, tensor: Tensor, dtype: DType): void {
  if (tensor.dtype !== dtype) {
    throw graphError(
      'GRAPH_DTYPE',
      `${operation}: operand ${formatShape(tensor.shape)} is ${tensor.dtype}; it should be ${dtype}`,
      { operation, dtype: tensor.dtype },
    );
  }
}

function checkShape(operation: string, shape: Shape): void {
  if (!shape.every((size) => Number.isSafeInteger(size) && size > 0)) {
    throw graphError(
      'GRAPH_SHAPE',
      `${operation}: shape ${formatShape(shape)} has a size that is not a positive whole number`,
      { operation, shapes: [shape] },
    );
  }
}
