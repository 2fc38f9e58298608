/** The contestants of the bench `serve`: a generator, llama.cpp, and generation without a cache. */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Generator, ModelBundle } from '../../index.ts';
import { predictorFor } from '../../lora/generate/predictor.ts';

/** Prompts to continue at once, each by `tokens` tokens. `adapters` has the id of each request's adapter. */
export interface ServeTask {
  readonly requests: readonly (readonly number[])[];
  readonly tokens: number;
  readonly adapters?: readonly string[];
}

export interface ServeResult {
  readonly ms: number;
  /** Resident memory of the contestant after the task, in bytes. */
  readonly memory: number;
}

export interface Contestant {
  run(task: ServeTask): Promise<ServeResult>;
  close(): Promise<void>;
}

export function ours(generator: Generator): Contestant {
  return {
    async run({ requests, tokens, adapters = [] }) {
      const start = performance.now();
      const generations = requests.map((prompt, i) =>
        generator.submit({ tokens: prompt, adapter: adapters[i], maxTokens: tokens, endTokens: [] }),
      );
      await Promise.all(generations.map(({ result }) => result));
      const ms = performance.now() - start;
      return { ms, memory: (await generator.status()).memoryBytes };
    },
    close: () => generator.close(),
  };
}

const SCRIPT = fileURLToPath(new URL('./serve_llama.py', import.meta.url));

export interface LlamaOptions {
  readonly python: string;
  readonly gguf: string;
  readonly type: 'F32' | 'Q8_0' | 'Q4_0';
  readonly threads: number;
  readonly rows: number;
}

export function llama({ python, gguf, type, threads, rows }: LlamaOptions): Contestant {
  const child = spawn(python, [SCRIPT, gguf, type, String(threads), String(rows)], {
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  return {
    async run({ requests, tokens }) {
      child.stdin.write(`${JSON.stringify({ requests, tokens })}\n`);
      const answer = await lines.next();
      if (answer.done) throw new Error('llama.cpp ended; see scripts/bench/serve_llama.py for what it needs');
      return JSON.parse(answer.value) as ServeResult;
    },
    async close() {
      child.stdin.end();
      await ended;
    },
  };
}

/**
 * Returns the time in milliseconds to generate one token after `context` without a cache of keys and values. An
 * earlier version of `lora-swarm generate` worked in this way.
 */
export async function millisecondsWithoutCache(
  bundle: ModelBundle,
  context: readonly number[],
  steps: number,
): Promise<number> {
  const { compileDynamic: _, ...engine } = bundle.engine;
  const predictor = predictorFor({ ...bundle, engine }, context.length + steps);
  await predictor.next(context);
  const times: number[] = [];
  for (let i = 1; i <= steps; i++) {
    const start = performance.now();
    await predictor.next([...context, ...new Array<number>(i).fill(7)]);
    times.push(performance.now() - start);
  }
  await predictor.dispose();
  return Math.min(...times);
}
