/** Helpers for tests of decoding. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Adapter, readPeftFolder } from '../../../lora/adapter/peft.ts';
import type { Engine } from '../../../lora/engines/engine.ts';
import { type ServedAdapter, servedAdapter } from '../../../lora/generate/adapters.ts';
import { DecodeModel } from '../../../lora/generate/decode-model.ts';
import { Scheduler } from '../../../lora/generate/scheduler.ts';
import type { ChosenToken, SchedulerOptions, SequenceRequest } from '../../../lora/generate/work.ts';
import { type BaseModel, openBase } from '../../../lora/models/base/base-model.ts';
import { prepareWeights } from '../../../lora/models/weights/prepare-weights.ts';
import { FIXTURES } from './reference.ts';

/** Greedy continuation by transformers, written by scripts/reference/make_greedy.py. */
interface Greedy {
  readonly prompt: readonly number[];
  readonly base: { readonly ids: readonly number[]; readonly logprobs: readonly number[] };
  readonly adapter: Greedy['base'];
}

/** Greedy continuations by the folder of a model in test/fixtures. */
export const GREEDY = JSON.parse(await readFile(join(FIXTURES, 'greedy.json'), 'utf8')) as Record<
  string,
  Greedy
>;

/** A model of test/fixtures, compiled for decoding. */
export interface TestDecoder {
  readonly base: BaseModel;
  readonly decoder: DecodeModel;
  scheduler(change?: Partial<SchedulerOptions>): Scheduler;
  adapter(folder: string): Promise<{ read: Adapter; served: ServedAdapter }>;
}

/**
 * Opens a model, and compiles it for decoding.
 * @param longest maximum number of tokens of a sequence
 */
export async function openDecoder(
  dir: string,
  cacheDir: string,
  engine: Engine,
  longest = 64,
): Promise<TestDecoder> {
  const base = await openBase(dir);
  const weights = await prepareWeights(base, cacheDir);
  const context = Math.min(base.config.maxPositions, longest);
  const decoder = new DecodeModel({ model: base, weights, context }, { compile: engine.compileDynamic! });
  const options = { config: base.config, context, rows: 4, waiting: 100, cacheBytes: 2 ** 26 };
  return {
    base,
    decoder,
    scheduler: (change = {}) => new Scheduler(decoder, { ...options, ...change }),
    adapter: async (folder) => {
      const read = await readPeftFolder(folder, base);
      return { read, served: servedAdapter(base, read) };
    },
  };
}

/** Continues tokens and returns what was chosen. */
export async function continued(
  scheduler: Scheduler,
  tokens: readonly number[],
  change: Partial<SequenceRequest> & { signal?: AbortSignal; onToken?: (token: ChosenToken) => void } = {},
): Promise<{ ids: number[]; chosen: ChosenToken[]; reason: string }> {
  const { signal = new AbortController().signal, onToken = () => {}, ...request } = change;
  const chosen: ChosenToken[] = [];
  const reason = await scheduler.generate(
    {
      tokens,
      adapter: null,
      sampling: {},
      maxTokens: 22,
      endTokens: [],
      logprobs: null,
      client: '',
      ...request,
    },
    (token) => {
      chosen.push(token);
      onToken(token);
    },
    signal,
  );
  return { ids: chosen.map(({ id }) => id), chosen, reason };
}
