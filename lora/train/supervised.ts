/**
 * Logits only where something is predicted: what instruction data leaves unsupervised costs no output head, and in the last
 * block nothing but its attention.
 */
import { IGNORED_LABEL, type Row } from '../data/row.ts';
import type { Engine, Executable, Feeds, WeightFile } from '../engines/engine.ts';

/** Name of the input that says which tokens, of all in the run, are supervised: [S] int64. */
export const SUPERVISED_INPUT = 'supervised';

/**
 * Graphs have static shapes, so there is one for each of these shares of a run's tokens, compiled when first needed:
 * a step takes the smallest that holds its supervised tokens. Which one depends on the rows alone, so that a training
 * that was interrupted adds up in the same order. What it holds in excess is padding. Seven and the whole at most: a
 * compiled graph of the 135M shape takes 35 MB and 0.4 s, and a data set meets a few of them.
 */
const SHARES = [2 / 16, 3 / 16, 4 / 16, 5 / 16, 6 / 16, 8 / 16, 10 / 16];
/** With fewer tokens per run a head saves less than what another graph costs. */
const LEAST_TOKENS = 64;

/** Supervised tokens for which a run of `tokens` is compiled if it has `supervised` of them; null for all. */
export function supervisedSize(supervised: number, tokens: number): number | null {
  if (tokens < LEAST_TOKENS) return null;
  const sizes = SHARES.map((share) => Math.ceil(share * tokens));
  return sizes.find((size) => supervised <= size) ?? null;
}

/** Predicted tokens of `rows`. */
export function countSupervised(rows: readonly Row[]): number {
  let count = 0;
  for (const { labels } of rows) for (const label of labels) if (label !== IGNORED_LABEL) count++;
  return count;
}

/**
 * Feeds `labels` and `supervised` of a graph for `size` supervised tokens. Places left over name token 0 once more,
 * without a label: no loss and no gradient.
 *
 * @param labels of all tokens of the run
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

/** A graph, compiled for some number of supervised tokens per run or for all (null). */
export interface SizedExecutable {
  readonly executable: Executable;
  readonly supervised: number | null;
}

/**
 * Whether a graph is compiled for several numbers of supervised tokens. On the processor graphs share the pages of the weight
 * file, on TensorFlow.js its tensors. On a GPU every session of onnxruntime uploads its own weights, and of 4 bits, taken
 * for little memory, each holds a packed copy: there all tokens get logits.
 */
export function isSized({ name }: Pick<Engine, 'name'>, { quantised }: WeightFile): boolean {
  if (name === 'onnx-webgpu' || name === 'onnx-cuda') return false;
  return ![...(quantised?.values() ?? [])].some(({ bits }) => bits === 4);
}

export interface SizedOptions {
  /** Of a run, padding included. */
  readonly tokens: number;
  /** Whether there may be more than one: `isSized`. */
  readonly sized: boolean;
}

/** The compiled sizes of one graph. */
export class SizedExecutables {
  readonly #compiled = new Map<number | null, Promise<Executable>>();
  readonly #options: SizedOptions;
  readonly #compile: (supervised: number | null) => Promise<Executable>;

  constructor(options: SizedOptions, compile: (supervised: number | null) => Promise<Executable>) {
    this.#options = options;
    this.#compile = compile;
  }

  /** For a run over these rows. */
  async for(rows: readonly Row[]): Promise<SizedExecutable> {
    const { tokens, sized } = this.#options;
    const supervised = sized ? supervisedSize(countSupervised(rows), tokens) : null;
    let executable = this.#compiled.get(supervised);
    if (executable === undefined) {
      executable = this.#compile(supervised);
      this.#compiled.set(supervised, executable);
      // Where there was too little memory, there may be enough the next time.
      executable.catch(() => this.#compiled.delete(supervised));
    }
    return { executable: await executable, supervised };
  }

  /** One whose compilation fails, which `for` throws, keeps no other from being released. */
  async dispose(): Promise<void> {
    const compiling = [...this.#compiled.values()];
    this.#compiled.clear();
    const results = await Promise.allSettled(compiling);
    const executables = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    await Promise.all(executables.map((executable) => executable.dispose()));
  }
}
