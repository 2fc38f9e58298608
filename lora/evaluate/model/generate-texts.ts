/** Continues many prompts greedily, several at a time, for engines that have no cache of keys and values. */
import { nextTurn } from '../../../common/abort-reason.ts';
import type { Executable } from '../../engines/engine.ts';
import { Graph } from '../../graph/graph.ts';
import { selectRows } from '../../graph/passes/select-rows.ts';
import { sequenceFeeds, sequenceInputs } from '../../models/sequences.ts';
import { adaptedParameters } from '../../train/adapted-model.ts';
import { adapterFeeds, type ModelBundle } from '../model-bundle.ts';
import type { ModelOptions } from './language-model.ts';
import { rowLength } from './score-sequences.ts';

/** Number of prompts that are continued at the same time. */
const BATCH = 8;

/** A prompt in tokens. */
export interface TokenPrompt {
  readonly ids: readonly number[];
  readonly until: readonly string[];
  readonly maxTokens: number;
}

/** Returns the generated texts, without the stop string that ended them. */
export async function generateTexts(
  bundle: ModelBundle,
  prompts: readonly TokenPrompt[],
  { onProgress, signal }: ModelOptions = {},
): Promise<string[]> {
  const texts = prompts.map(() => '');
  // Sorts the prompts by length, because prompts of similar length need little padding in a common graph.
  const waiting = [...prompts.keys()].sort((a, b) => prompts[a]!.ids.length - prompts[b]!.ids.length);
  const predictor = new BatchPredictor(bundle);
  let active: { index: number; ids: number[]; start: number }[] = [];
  let done = 0;
  try {
    while (active.length > 0 || waiting.length > 0) {
      await nextTurn(signal);
      while (active.length < BATCH && waiting.length > 0) {
        const index = waiting.shift()!;
        const { ids } = prompts[index]!;
        active.push({ index, ids: [...ids], start: ids.length });
      }
      const next = await predictor.next(active.map(({ ids }) => ids));
      active = active.filter(({ index, ids, start }, i) => {
        const { until, maxTokens } = prompts[index]!;
        const ended = next[i] === bundle.tokenizer.eosId;
        if (!ended) ids.push(next[i]!);
        const text = bundle.tokenizer.decode(ids.slice(start));
        const stopped = until.some((end) => end !== '' && text.includes(end));
        if (!ended && !stopped && ids.length - start < maxTokens) return true;
        texts[index] = withoutStop(text, until);
        onProgress?.(++done);
        return false;
      });
    }
  } finally {
    await predictor.dispose();
  }
  return texts;
}

/** Cuts an answer off before its first stop string. */
export function withoutStop(text: string, until: readonly string[]): string {
  return until.reduce((rest, end) => (end === '' ? rest : rest.split(end)[0]!), text);
}

/** Predicts the most likely next token of several sequences, with a graph for each length of sequence. */
class BatchPredictor {
  readonly #bundle: ModelBundle;
  readonly #adapter: Record<string, Float32Array>;
  #length = 0;
  #executable: Executable | null = null;

  constructor(bundle: ModelBundle) {
    this.#bundle = bundle;
    this.#adapter = Object.fromEntries(adapterFeeds(bundle));
  }

  async next(sequences: readonly (readonly number[])[]): Promise<number[]> {
    const longest = sequences.reduce((most, ids) => Math.max(most, ids.length), 0);
    const length = rowLength(longest, this.#bundle.model.config.maxPositions);
    if (length !== this.#length) await this.#compile(length);
    const rows = Array.from({ length: BATCH }, (_, i) => {
      const ids = new Uint32Array(length);
      ids.set(sequences[i] ?? []);
      return { ids, segments: new Uint32Array(length).fill(1, 0, sequences[i]?.length ?? 0) };
    });
    const last = BigInt64Array.from(rows, (_, i) =>
      BigInt(i * length + Math.max(0, (sequences[i]?.length ?? 0) - 1)),
    );
    const { logits } = await this.#executable!.run({
      ...sequenceFeeds(rows, length),
      last,
      ...this.#adapter,
    });
    const width = logits!.length / BATCH;
    return sequences.map((_, i) => mostLikely(logits!.subarray(i * width, (i + 1) * width)));
  }

  async dispose(): Promise<void> {
    await this.#executable?.dispose();
    this.#executable = null;
  }

  async #compile(length: number): Promise<void> {
    await this.dispose();
    const { model, engine, weights, adapter } = this.#bundle;
    const graph = new Graph();
    const inputs = sequenceInputs(graph, BATCH, length);
    const last = graph.input('last', [BATCH], 'int64');
    const source = adaptedParameters(graph, model, adapter?.lora ?? null);
    graph.output('logits', selectRows(model.architecture.forward(graph, model.config, inputs, source), last));
    this.#executable = await engine.compile(graph, weights);
    this.#length = length;
  }
}

function mostLikely(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}
