/**
 * Computes logits for supervised tokens only. The unsupervised tokens of instruction data then skip the output head
 * and, in the last block, everything except attention.
 */
import { IGNORED_LABEL, type Row } from '../data/row.ts';
import type { Engine, Executable, Feeds, WeightFile } from '../engines/engine.ts';

/** Input with the indices of the supervised tokens among all tokens of a pass through the model: [S] int64. */
export const SUPERVISED_INPUT = 'supervised';

/**
 * Sizes of seven graphs that compute logits only for supervised tokens. The size of a graph is its number of slots for
 * supervised tokens, here as a share of the tokens of a pass through the model. One more graph computes the logits of
 * all tokens. Graphs have static shapes, so a pass uses the smallest graph with enough slots, and pads unused slots. The
 * choice depends on the rows alone, so a resumed run sums in the same order.
 *
 * A graph is compiled when it is first needed, which takes 35 MB and 0.4 s at 135M parameters. A data set needs only a
 * few of the graphs.
 */
const SHARES = [2 / 16, 3 / 16, 4 / 16, 5 / 16, 6 / 16, 8 / 16, 10 / 16];
/**
 * If a pass through the model has fewer tokens than this, it computes the logits of all tokens. Leaving out
 * the logits of some tokens would save less time than compiling another graph takes.
 */
const MIN_TOKENS = 64;

/**
 * Chooses the graph for a pass in which `supervised` of `tokens` tokens are supervised. Returns the number of tokens
 * for which that graph computes logits; null for the graph that computes logits for all tokens.
 */
export function supervisedSize(supervised: number, tokens: number): number | null {
  if (tokens < MIN_TOKENS) return null;
  const sizes = SHARES.map((share) => Math.ceil(share * tokens));
  return sizes.find((size) => supervised <= size) ?? null;
}

export function countSupervised(rows: readonly Row[]): number {
  let count = 0;
  for (const { labels } of rows) for (const label of labels) if (label !== IGNORED_LABEL) count++;
  return count;
}

/**
 * Returns the feeds `labels` and `supervised` of a graph for `size` supervised tokens. Unused slots point to token 0 and
 * have no label, so they give no loss and no gradient.
 *
 * @param labels labels of all tokens of the pass
 */
export function supervisedFeeds(labels: BigInt64Array, size: number): Feeds {
  const chosen = new BigInt64Array(size);
  const kept = new BigInt64Array(size).fill(BigInt(IGNORED_LABEL));
  let count = 0;
  for (const [token, label] of labels.entries()) {
    if (label === BigInt(IGNORED_LABEL)) continue;
    chosen[count] = BigInt(token);
    kept[count++] = label;
  }
  return { labels: kept, [SUPERVISED_INPUT]: chosen };
}

/** A compiled graph. */
export interface SizedExecutable {
  readonly executable: Executable;
  /** Number of the graph's slots for supervised tokens; null if the graph computes logits for all tokens. */
  readonly supervised: number | null;
}

/**
 * Returns whether several sizes of a graph may be compiled. On the processor, all graphs map the same file of weights.
 * On TensorFlow.js, they share the weight tensors. On a GPU, every session of onnxruntime uploads its own weights, and
 * at 4 bits, every session packs its own copy. In these two cases, several graphs would need several copies of the
 * weights, so a single graph computes logits for all tokens.
 */
export function isSized({ name }: Pick<Engine, 'name'>, { quantised }: WeightFile): boolean {
  if (name === 'onnx-webgpu' || name === 'onnx-cuda') return false;
  return ![...(quantised?.values() ?? [])].some(({ bits }) => bits === 4);
}

export interface SizedOptions {
  /** Number of tokens in a pass through the model, including padding. */
  readonly tokens: number;
  /** Whether to compile graphs for several numbers of supervised tokens (the result of `isSized`). */
  readonly sized: boolean;
}

/** One graph, compiled for several numbers of supervised tokens. */
export class SizedExecutables {
  readonly #compiled = new Map<number | null, Promise<Executable>>();
  readonly #options: SizedOptions;
  readonly #compile: (supervised: number | null) => Promise<Executable>;

  constructor(options: SizedOptions, compile: (supervised: number | null) => Promise<Executable>) {
    this.#options = options;
    this.#compile = compile;
  }

  /** Returns the graph for a pass over these rows, compiled if necessary. */
  async for(rows: readonly Row[]): Promise<SizedExecutable> {
    const { tokens, sized } = this.#options;
    const supervised = sized ? supervisedSize(countSupervised(rows), tokens) : null;
    let executable = this.#compiled.get(supervised);
    if (executable === undefined) {
      executable = this.#compile(supervised);
      this.#compiled.set(supervised, executable);
      // Forget a failed compilation, because a later attempt may find enough memory.
      executable.catch(() => this.#compiled.delete(supervised));
    }
    return { executable: await executable, supervised };
  }

  /**
   * Releases all graphs. Ignores compilations that failed, because the method `for` has already thrown their errors.
   */
  async dispose(): Promise<void> {
    const compiling = [...this.#compiled.values()];
    this.#compiled.clear();
    const results = await Promise.allSettled(compiling);
    const executables = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    await Promise.all(executables.map((executable) => executable.dispose()));
  }
}
