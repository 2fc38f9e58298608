import { updateError } from './errors.ts';
import type { SparseUpdate } from './format.ts';
import { checkTensors, type UpdateLayout } from './format.ts';

/** A LoRA module: positions of A [rank, in] and B [out, rank] in the layout, and their sizes. */
interface LoraModule {
  readonly name: string;
  readonly a: number;
  readonly b: number;
  readonly rank: number;
  readonly inputs: number;
  readonly outputs: number;
}

/** Difference between averaging the factors A and B and averaging the products B·A. */
export interface Drift {
  /**
   * ‖Σwᵢ·BᵢAᵢ − B̄Ā‖ / ‖Σwᵢ·BᵢAᵢ − B₀A₀‖ over all modules; 0 when no tensor has changed. Ā and B̄ are the
   * weighted averages of the factors, and A₀ and B₀ the factors before the round.
   */
  readonly rho: number;
  /** The ratio `rho` of each module alone. The key is the module's name without the suffix for A or B. */
  readonly modules: ReadonlyMap<string, number>;
}

/** Name suffixes of A and B, for linear modules and for embeddings. */
const SUFFIXES = [
  ['.lora_A.weight', '.lora_B.weight'],
  ['.lora_embedding_A', '.lora_embedding_B'],
] as const;

function loraModules(layout: UpdateLayout): LoraModule[] {
  const byName = new Map(layout.map(({ name }, position) => [name, position]));
  const modules: LoraModule[] = [];
  for (const [a, { name, shape }] of layout.entries()) {
    const suffixes = SUFFIXES.find(([ending]) => name.endsWith(ending));
    if (suffixes === undefined) continue;
    const [endOfA, endOfB] = suffixes;
    const module = name.slice(0, -endOfA.length);
    const b = byName.get(module + endOfB);
    const [rank = 0, inputs = 0] = shape;
    const [outputs = 0, columns] = b === undefined ? [] : layout[b]!.shape;
    if (b === undefined || columns !== rank) {
      throw updateError('UPDATE_SHAPE', `${name} has no ${endOfB} of the same rank`, {
        name,
        rank,
      });
    }
    modules.push({ name: module, a, b, rank, inputs, outputs });
  }
  return modules;
}

/**
 * Measures how far averaging A and B separately is from averaging the products B·A. Bᵢ = B₀ − ΔBᵢ and Aᵢ = A₀ − ΔAᵢ,
 * where the decoded updates hold the changes ΔBᵢ and ΔAᵢ. The weights wᵢ are scaled so that their sum is 1. Because
 * ‖Σ XₖYₖ‖² = Σₖₗ tr((XₖᵀXₗ)(YₗYₖᵀ)), the norms follow from Gram matrices of the rank components, and no out × in
 * matrix is computed.
 * @param adapter the checkpoint that all updates start from
 * @throws UPDATE_SHAPE, UPDATE_WEIGHT
 */
export function drift(
  layout: UpdateLayout,
  adapter: readonly Float32Array[],
  updates: readonly SparseUpdate[],
  weights: readonly number[],
): Drift {
  checkTensors(layout, adapter);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  if (
    weights.length !== updates.length ||
    !(total > 0) ||
    !Number.isFinite(total) ||
    weights.some((w) => w < 0)
  ) {
    throw updateError(
      'UPDATE_WEIGHT',
      'there must be one weight per update, finite and at least 0, and at least one must be above 0',
      { weights },
    );
  }
  const shares = weights.map((weight) => weight / total);
  const modules = new Map<string, number>();
  let errors = 0;
  let moves = 0;
  for (const module of loraModules(layout)) {
    const { error, move } = moduleDrift(module, adapter, updates, shares);
    modules.set(module.name, ratio(error, move));
    errors += error;
    moves += move;
  }
  return { rho: ratio(errors, moves), modules };
}

/**
 * Computes two squared norms. `error`: the difference between the mean of the products B·A and the product of the means
 * of B and A. `move`: the change of the mean of the products B·A in this round.
 */
function moduleDrift(
  { a, b, rank, inputs, outputs }: LoraModule,
  adapter: readonly Float32Array[],
  updates: readonly SparseUpdate[],
  shares: readonly number[],
): { error: number; move: number } {
  const ofA = (index: number) => [Math.floor(index / inputs), index % inputs] as const;
  const ofB = (index: number) => [index % rank, Math.floor(index / rank)] as const;
  const gramA = gram(blocks(a, adapter, updates, shares), rank, inputs, ofA);
  const gramB = gram(blocks(b, adapter, updates, shares), rank, outputs, ofB);
  const products = shares.map((share, peer) => ({
    b: peer + FIRST_PEER,
    a: peer + FIRST_PEER,
    factor: share,
  }));
  // Aᵢ and Bᵢ are the matrices of peer i, A₀ and B₀ are the matrices before the round, and Ā and B̄ the weighted
  // averages. Δ is the matrix before the round minus the matrix after it. The change of the exact average is Σwᵢ·BᵢAᵢ −
  // B₀A₀ = Σwᵢ·ΔBᵢΔAᵢ − B₀·ΔĀ − ΔB̄·A₀. The error of separate averaging is Σwᵢ·BᵢAᵢ − B̄Ā = Σwᵢ·ΔBᵢΔAᵢ − ΔB̄·ΔĀ.
  return {
    error: squaredNorm([...products, { b: MEAN, a: MEAN, factor: -1 }], gramB, gramA, rank),
    move: squaredNorm(
      [...products, { b: START, a: MEAN, factor: -1 }, { b: MEAN, a: START, factor: -1 }],
      gramB,
      gramA,
      rank,
    ),
  };
}

/**
 * Order of the blocks in a Gram matrix: the adapter at the start of the round, the mean change, then the change of
 * each peer. Each block takes `rank` rows and columns of the matrix.
 */
const START = 0;
const MEAN = 1;
const FIRST_PEER = 2;

interface Block {
  readonly indices: Uint32Array | null;
  readonly values: ArrayLike<number>;
}

/**
 * Returns the values of one tensor as blocks: first the tensor in the adapter, then the weighted mean of its
 * changes in all updates, then its change in each update.
 */
function blocks(
  tensor: number,
  adapter: readonly Float32Array[],
  updates: readonly SparseUpdate[],
  shares: readonly number[],
): Block[] {
  const start = adapter[tensor]!;
  const changes = updates.map(({ tensors }) => tensors[tensor]!);
  const mean = new Float64Array(start.length);
  for (const [peer, { indices, values }] of changes.entries()) {
    const share = shares[peer]!;
    for (let entry = 0; entry < values.length; entry++) {
      mean[indices === null ? entry : indices[entry]!]! += share * values[entry]!;
    }
  }
  return [{ indices: null, values: start }, { indices: null, values: mean }, ...changes];
}

interface Gram {
  readonly size: number;
  readonly dots: Float64Array;
}

/**
 * Computes the Gram matrix of the blocks. Each block is a matrix A or B, which has one vector for each rank component.
 * The result has the dot product of every two of these vectors.
 * @param locate maps the index of a value in a block to its component and its position in the component's vector
 */
function gram(
  list: readonly Block[],
  rank: number,
  length: number,
  locate: (index: number) => readonly [component: number, position: number],
): Gram {
  const components = list.flatMap((block) => split(block, rank, locate));
  const size = components.length;
  const dots = new Float64Array(size * size);
  const dense = new Float64Array(length);
  for (const [row, { positions, values }] of components.entries()) {
    for (let entry = 0; entry < positions.length; entry++) dense[positions[entry]!] = values[entry]!;
    for (let column = row; column < size; column++) {
      const other = components[column]!;
      let dot = 0;
      for (let entry = 0; entry < other.positions.length; entry++) {
        dot += dense[other.positions[entry]!]! * other.values[entry]!;
      }
      dots[row * size + column] = dot;
      dots[column * size + row] = dot;
    }
    dense.fill(0);
  }
  return { size, dots };
}

function split(
  { indices, values }: Block,
  rank: number,
  locate: (index: number) => readonly [component: number, position: number],
): { positions: number[]; values: number[] }[] {
  const components = Array.from({ length: rank }, () => ({
    positions: [] as number[],
    values: [] as number[],
  }));
  for (let entry = 0; entry < values.length; entry++) {
    const [component, position] = locate(indices === null ? entry : indices[entry]!);
    components[component]!.positions.push(position);
    components[component]!.values.push(values[entry]!);
  }
  return components;
}

/**
 * Computes ‖Σ factor·X_b·Y_a‖², where the sum goes over `terms` and X_b is [out, rank], Y_a [rank, in]. It uses only the
 * Gram matrices of all X and of all Y.
 */
function squaredNorm(
  terms: readonly { b: number; a: number; factor: number }[],
  gramB: Gram,
  gramA: Gram,
  rank: number,
): number {
  let sum = 0;
  for (const one of terms) {
    for (const other of terms) {
      let trace = 0;
      for (let s = 0; s < rank; s++) {
        const rowB = (one.b * rank + s) * gramB.size + other.b * rank;
        const rowA = (one.a * rank + s) * gramA.size + other.a * rank;
        for (let t = 0; t < rank; t++) trace += gramB.dots[rowB + t]! * gramA.dots[rowA + t]!;
      }
      sum += one.factor * other.factor * trace;
    }
  }
  return Math.max(0, sum);
}

function ratio(error: number, move: number): number {
  return move > 0 ? Math.sqrt(error / move) : 0;
}
