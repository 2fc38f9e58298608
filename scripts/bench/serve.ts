import { copyFile, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { exportGguf, nanoModel, openGenerator, openModel } from '../../index.ts';
import { initialMatrices } from '../../lora/adapter/initial.ts';
import { adapterLayout } from '../../lora/adapter/layout.ts';
import { loraConfig } from '../../lora/adapter/lora-config.ts';
import { writePeftFolder } from '../../lora/adapter/peft.ts';
import { openBase } from '../../lora/models/base/base-model.ts';
import type { BenchOptions, BenchRow } from '../bench.ts';
import { writeRandomModel } from './base-bits-model.ts';
import { groupCpuMilliseconds, processGroup } from './cpu-time.ts';
import {
  type Contestant,
  llama,
  millisecondsWithoutCache,
  ours,
  type ServeResult,
  type ServeTask,
} from './serve-contestants.ts';

export const name = 'serve';
export const about =
  'speed and memory of generating text with a 135M-parameter model and its adapters, with --python compared with llama.cpp; --shape one-thread uses one thread (10 minutes)';

const ROWS = 8;
const ADAPTERS = 8;
const RANK = 16;
const CONTEXT = 1024;
/** Number of tokens of the prompt that measures the speed of prefill. */
const LONG_PROMPT = 512;
/** Number of tokens of the prompt that measures the time to the first token, as in a chat. */
const CHAT_PROMPT = 64;
/** Number of tokens of the prompts that measure the speed of decoding. */
const SHORT_PROMPT = 16;
const GENERATED = 24;

const FORMATS = [
  { baseBits: 32, type: 'F32', decodeTarget: 0.9 },
  { baseBits: 8, type: 'Q8_0', decodeTarget: 0.7 },
  { baseBits: 4, type: 'Q4_0', decodeTarget: 0.7 },
] as const;
/** Minimum speed with eight adapters, relative to the speed with one. */
const ADAPTERS_TARGET = 0.8;
/** Minimum speed at a context of 512 tokens, relative to computing the whole text again for each token. */
const CACHE_TARGET = 30;

/**
 * With this shape, the benchmark runs on one thread and measures processor time. Other programs on the machine change
 * processor time less than wall time.
 */
const ONE_THREAD = 'one-thread';
export const shapes = [ONE_THREAD];

/**
 * Measures the speed and memory of generating text, and compares them with llama.cpp. The contestants take turns. The
 * fastest run of each measurement counts, because other programs can only add time. For all contestants, the speeds of
 * decoding include the computation of short prompts.
 */
export async function run(report: (row: BenchRow) => void, options: BenchOptions): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'bench-serve-'));
  try {
    const setup = await prepare(folder, options);
    for (const format of FORMATS) {
      await measureBase(report, setup, format);
      await measureAdapters(report, setup, format);
    }
    await measureCache(report, setup);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

interface Setup {
  readonly base: string;
  readonly cacheDir: string;
  readonly adapters: readonly string[];
  /** Path of the model as a GGUF file; null if no Python with llama.cpp was named. */
  readonly gguf: string | null;
  readonly python: string;
  readonly turns: number;
  readonly threads: number;
  readonly log: (line: string) => void;
}

async function prepare(
  folder: string,
  { log, python, shapes: chosen, quick = false }: BenchOptions,
): Promise<Setup> {
  const base = join(folder, 'model');
  const cacheDir = join(folder, 'cache');
  await mkdir(base);
  await writeRandomModel(base, '135m');
  await copyFile(join(nanoModel(), 'tokenizer_config.json'), join(base, 'tokenizer_config.json'));
  const model = await openBase(base);
  const lora = loraConfig({ rank: RANK, alpha: 2 * RANK });
  const layout = adapterLayout(model, lora);
  const adapters: string[] = [];
  for (let i = 0; i < ADAPTERS; i++) {
    const matrices = initialMatrices(layout, i + 1);
    const tensors = matrices.map((values, t) =>
      layout[t]!.group === 'B' ? values.fill(0.001 * (i + 1)) : values,
    );
    const adapter = join(folder, `adapter-${i}`);
    await writePeftFolder(adapter, { layout, tensors, lora, baseModelName: null });
    adapters.push(adapter);
  }
  let gguf: string | null = null;
  if (python !== undefined)
    gguf = (await exportGguf({ base, output: join(folder, 'gguf'), type: 'f32', cacheDir })).file;
  const turns = quick ? 1 : 4;
  const threads = chosen?.includes(ONE_THREAD) ? 1 : availableParallelism();
  return { base, cacheDir, adapters, gguf, python: python ?? '', turns, threads, log };
}

type Format = (typeof FORMATS)[number];

let prompts = 0;
/**
 * Returns a prompt that begins differently from all earlier prompts, so that a prefix cache does not help.
 */
function prompt(length: number): number[] {
  prompts++;
  return Array.from({ length }, (_, i) => (prompts * 7919 + i * (i + 31)) % 4096);
}

function tasks(count: number, length: number, tokens: number): ServeTask {
  return { requests: Array.from({ length: count }, () => prompt(length)), tokens };
}

/** The measurements. A speed is `tokens` divided by the measured time. If `tokens` is null, the result is the time. */
const MEASURES = [
  { what: 'prefill', make: () => tasks(1, LONG_PROMPT, 1), tokens: LONG_PROMPT, unit: 'tokens/s' },
  { what: 'first token', make: () => tasks(1, CHAT_PROMPT, 1), tokens: null, unit: 'ms' },
  {
    what: 'decode, 1 request',
    make: () => tasks(1, SHORT_PROMPT, GENERATED),
    tokens: GENERATED,
    unit: 'tokens/s',
  },
  {
    what: `decode, ${ROWS} requests`,
    make: () => tasks(ROWS, SHORT_PROMPT, GENERATED),
    tokens: ROWS * GENERATED,
    unit: 'tokens/s',
  },
] as const;

/**
 * Runs a task of each contestant in turn, several times. Returns the fastest run of each contestant. If the
 * contestants use one thread, the time of a run is its processor time, otherwise its wall time.
 */
async function alternate(
  contestants: readonly Contestant[],
  make: (contestant: number) => ServeTask,
  { turns, threads }: Pick<Setup, 'turns' | 'threads'>,
): Promise<ServeResult[]> {
  const best: ServeResult[] = [];
  // The processes of all contestants are in this group. Only the contestant whose turn it is uses processor time.
  const processorTime = () => groupCpuMilliseconds([processGroup()]);
  for (let turn = 0; turn < turns; turn++) {
    for (const [i, contestant] of contestants.entries()) {
      const task = make(i);
      const before = processorTime();
      const wall = await contestant.run(task);
      const used = before === null ? wall.ms : processorTime()! - before;
      const result = threads === 1 ? { ...wall, ms: used } : wall;
      if (best[i] === undefined || result.ms < best[i].ms) best[i] = result;
    }
  }
  return best;
}

async function measureBase(report: (row: BenchRow) => void, setup: Setup, format: Format): Promise<void> {
  const { base, cacheDir, gguf, python, threads, log } = setup;
  const { baseBits, type, decodeTarget } = format;
  const compute = { engine: 'onnx-cpu', threads, baseBits };
  const generator = await openGenerator({ base, cacheDir, compute, rows: ROWS, context: CONTEXT });
  const contestants = [ours(generator)];
  if (gguf !== null) contestants.push(llama({ python, gguf, type, threads, rows: ROWS }));
  try {
    for (const contestant of contestants) await contestant.run(tasks(ROWS, SHORT_PROMPT, 2));
    for (const { what, make, tokens, unit } of MEASURES) {
      const [own, other] = await alternate(contestants, make, setup);
      const figure = ({ ms }: ServeResult) => (tokens === null ? ms : (1000 * tokens) / ms);
      const label = `serve ${baseBits} bits, ${what}`;
      log(
        `${label}: ${figure(own!).toFixed(1)} ${unit}${other ? `, llama.cpp ${figure(other).toFixed(1)}` : ''}`,
      );
      report({
        name: label,
        value: figure(own!),
        unit,
        target: null,
        met: null,
        reference: `${threads} threads`,
      });
      if (other === undefined) continue;
      const value = other.ms / own!.ms;
      const target = what.startsWith('decode') ? decodeTarget : null;
      const reference = `speed relative to llama.cpp ${type}: ${figure(other).toFixed(1)} ${unit}`;
      report({
        name: label,
        value,
        unit: 'times',
        target,
        met: target === null ? null : value >= target,
        reference,
      });
    }
    const memory = await alternate(contestants, () => tasks(ROWS, SHORT_PROMPT, 2), { turns: 1, threads });
    const [own, other] = memory.map(({ memory: bytes }) => bytes / 2 ** 20);
    const reference = other === undefined ? '' : `llama.cpp: ${other.toFixed(0)} MiB`;
    report({
      name: `serve ${baseBits} bits, memory`,
      value: own!,
      unit: 'MiB',
      target: null,
      met: null,
      reference,
    });
  } finally {
    for (const contestant of contestants) await contestant.close();
  }
}

async function measureAdapters(
  report: (row: BenchRow) => void,
  { base, cacheDir, adapters, turns, threads, log }: Setup,
  { baseBits }: Format,
): Promise<void> {
  const compute = { engine: 'onnx-cpu', threads, baseBits };
  const generator = await openGenerator({ base, cacheDir, compute, rows: ROWS, context: CONTEXT });
  const contestant = ours(generator);
  try {
    const ids: string[] = [];
    const without = await alternate([contestant], () => tasks(ROWS, SHORT_PROMPT, GENERATED), {
      turns,
      threads,
    });
    for (const folder of adapters) ids.push((await generator.addAdapter(folder)).id);
    const one = ids.map(() => ids[0]!);
    // The same generator computes two cases in turn: all requests with the same adapter, and each request with
    // a different adapter.
    const [single, several] = await alternate(
      [contestant, contestant],
      (i) => ({ ...tasks(ROWS, SHORT_PROMPT, GENERATED), adapters: i === 0 ? one : ids }),
      { turns: turns + 1, threads },
    );
    const value = single!.ms / several!.ms;
    const ofBase = without[0]!.ms / single!.ms;
    log(
      `${baseBits} bits: ${ADAPTERS} adapters ${value.toFixed(2)} of one; one ${ofBase.toFixed(2)} of none`,
    );
    const label = `serve ${baseBits} bits, ${ROWS} requests`;
    report({
      name: `${label}, ${ADAPTERS} adapters`,
      value,
      unit: 'times',
      target: ADAPTERS_TARGET,
      met: value >= ADAPTERS_TARGET,
      reference: `speed relative to one adapter of rank ${RANK}`,
    });
    const reference = 'speed relative to the base alone';
    report({ name: `${label}, 1 adapter`, value: ofBase, unit: 'times', target: null, met: null, reference });
  } finally {
    await contestant.close();
  }
}

/** Compares the time of one token with and without a cache, after 512 tokens of context, with 32 base bits. */
async function measureCache(report: (row: BenchRow) => void, setup: Setup): Promise<void> {
  const { base, cacheDir, turns, threads } = setup;
  const compute = { engine: 'onnx-cpu', threads };
  const bundle = await openModel({ base, compute, cacheDir });
  const before = await millisecondsWithoutCache(bundle, prompt(LONG_PROMPT - turns), turns);
  const generator = await openGenerator({ base, cacheDir, compute, context: CONTEXT });
  const times: number[] = [];
  try {
    const tokens = prompt(LONG_PROMPT);
    let last = 0;
    for await (const _ of generator.submit({ tokens, maxTokens: GENERATED, endTokens: [] })) {
      const now = performance.now();
      if (last > 0) times.push(now - last);
      last = now;
    }
  } finally {
    await generator.close();
  }
  const after = times.toSorted((a, b) => a - b)[Math.floor(times.length / 4)]!;
  const value = before / after;
  report({
    name: `serve, a token at ${LONG_PROMPT} tokens of context`,
    value,
    unit: 'times',
    target: CACHE_TARGET,
    met: value >= CACHE_TARGET,
    reference: `speed relative to generating without a cache: ${before.toFixed(0)} ms a token`,
  });
}
