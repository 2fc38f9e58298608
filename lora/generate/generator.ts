/** The parent's side of a generator process. */
import { resolve } from 'node:path';
import { withAbortReason } from '../../common/abort-reason.ts';
import { commonError } from '../../common/common-errors.ts';
import type { SwarmError } from '../../common/errors.ts';
import { makeFolder } from '../../common/files/folders.ts';
import { resolveCache } from '../../common/files/user-folders.ts';
import { ChildCalls, type ChildEnd } from '../../common/workers/child-process.ts';
import { entryOf } from '../../common/workers/entry.ts';
import { baseWarning, checkBase } from '../adapter/check-base.ts';
import { readPeftFolder } from '../adapter/peft.ts';
import { loadTokenizer, type TextTokenizer } from '../data/tokenizer.ts';
import { graphProcessEnvironment } from '../engines/allocator.ts';
import { type BaseModel, openBase } from '../models/base/base-model.ts';
import { findBase } from '../models/base/find-base.ts';
import type { FetchProgress } from '../models/hub/fetch-model.ts';
import { type ComputeInput, parseOneDevice } from '../train/compute.ts';
import { readEndTokens } from './end-tokens.ts';
import { generateError } from './errors.ts';
import { RunningGeneration } from './generation.ts';
import type { GeneratorMethods } from './process/messages.ts';
import { checkGenerateRequest, checkScoreRequest } from './request.ts';
import { tokenBytes } from './row-cache.ts';
import type {
  GenerateRequest,
  Generation,
  Generator,
  GeneratorStatus,
  LoadedAdapter,
  ScoredToken,
  ScoreRequest,
} from './types.ts';

/**
 * Default maximum length of a sequence, in tokens. A model may support far longer sequences. The default is
 * lower, because the graph's tables of rotary positions grow with the maximum.
 */
const DEFAULT_CONTEXT = 8192;
const DEFAULT_ROWS = 8;
const DEFAULT_WAITING = 256;
const DEFAULT_CACHE_BYTES = 2 ** 30;
/** Time in milliseconds after which a process that was told to stop is killed. */
const STOP_GRACE_MS = 3_000;

/** Options of a generator: its base, its adapters and its limits. */
export interface OpenGeneratorOptions {
  /** Folder of a base in Hugging Face layout, or `ORG/NAME[@REVISION]` on the hub. */
  readonly base: string;
  /** Folders of PEFT adapters that are loaded at the start. @default none */
  readonly adapters?: readonly string[];
  /** Settings for computing. The engine must be `auto` or `onnx-cpu`. @default 32 bits, all hardware threads */
  readonly compute?: ComputeInput;
  /**
   * Maximum number of tokens of a sequence.
   * @default the model's positions, but at most 8,192, and no more than fit into `cacheBytes`
   */
  readonly context?: number;
  /** Maximum number of requests that are computed at once. @default 8 */
  readonly rows?: number;
  /** Maximum number of requests that wait. @default 256 */
  readonly waiting?: number;
  /** Memory for keys and values of running requests and for the prefix cache, in bytes. @default 1 GiB */
  readonly cacheBytes?: number;
  /** Folder of converted weights. @default SWARM_CACHE, else lora-swarm in the user's cache folder */
  readonly cacheDir?: string;
  /** Aborts the start of the generator. @default never aborts */
  readonly signal?: AbortSignal;
  /** Called while a base on the hub is downloaded, or a GGUF file is converted. */
  readonly onDownload?: (progress: FetchProgress) => void;
  /** Called with a warning, in one sentence, if an adapter may have been made for another base. */
  readonly onWarning?: (text: string) => void;
  /** Called with each line of the process's standard error. */
  readonly onLog?: (line: string) => void;
}

/** Dependencies of `openGenerator`. All have defaults. */
export interface OpenGeneratorDeps {
  /** Returns the folder of a base. @default fetches a base on the hub, as `findBase` does */
  readonly findBase?: (base: string) => Promise<string>;
}

/**
 * Starts a process that continues texts with a base and any number of adapters.
 *
 * @throws SwarmError USAGE, MODEL_*, HUB_*, ADAPTER_*, LORA_*, ENGINE_*, GENERATOR_DIED; the signal's reason
 */
export function openGenerator(
  options: OpenGeneratorOptions,
  deps: OpenGeneratorDeps = {},
): Promise<Generator> {
  return withAbortReason(options.signal, () => open(options, deps));
}

async function open(options: OpenGeneratorOptions, deps: OpenGeneratorDeps): Promise<Generator> {
  const { cacheDir = resolveCache(), signal = new AbortController().signal } = options;
  const { threads, baseBits, devices } = parseOneDevice(options.compute ?? {});
  if (devices !== 'auto' && devices[0].engine !== 'onnx-cpu') {
    throw commonError(
      'USAGE',
      `a generator computes on the processor, not with ${devices[0].engine}`,
      { engine: devices[0].engine },
      { next: 'use --engine onnx-cpu' },
    );
  }
  const find =
    deps.findBase ?? ((base: string) => findBase({ base, signal, onProgress: options.onDownload }));
  const model = await openBase(await find(options.base));
  const { cacheBytes = DEFAULT_CACHE_BYTES, rows = DEFAULT_ROWS, waiting = DEFAULT_WAITING } = options;
  const most = Math.min(model.config.maxPositions, Math.floor(cacheBytes / tokenBytes(model.config)));
  const context = Math.min(options.context ?? DEFAULT_CONTEXT, most);
  await makeFolder(cacheDir, { next: 'set SWARM_CACHE to a folder that you may write to' });
  const [tokenizer, endTokens] = await Promise.all([loadTokenizer(model.dir), readEndTokens(model.dir)]);
  const ends = [...new Set(tokenizer.eosId === null ? endTokens : [tokenizer.eosId, ...endTokens])];
  const child = new ChildCalls<GeneratorMethods>(entryOf(import.meta, './process/process'), {
    env: graphProcessEnvironment(),
    ...(options.onLog && { onLog: options.onLog }),
    ended: (end) => died(end),
  });
  const generator = new GeneratorProcess(
    child,
    { model, tokenizer, endTokens: ends, context, cacheDir },
    options,
  );
  try {
    const limits = { context, rows, waiting, cacheBytes };
    await child.call(
      'start',
      { modelDir: resolve(model.dir), cacheDir, threads, baseBits, ...limits },
      { signal },
    );
    for (const folder of options.adapters ?? []) await generator.addAdapter(folder, { signal });
    return generator;
  } catch (error) {
    await child.kill();
    throw error;
  }
}

interface Opened {
  readonly model: BaseModel;
  readonly tokenizer: TextTokenizer;
  readonly endTokens: readonly number[];
  readonly context: number;
  readonly cacheDir: string;
}

class GeneratorProcess implements Generator {
  readonly model: BaseModel;
  readonly tokenizer: TextTokenizer;
  readonly endTokens: readonly number[];
  readonly context: number;
  readonly #child: ChildCalls<GeneratorMethods>;
  readonly #cacheDir: string;
  readonly #onWarning: ((text: string) => void) | undefined;

  constructor(
    child: ChildCalls<GeneratorMethods>,
    { model, tokenizer, endTokens, context, cacheDir }: Opened,
    { onWarning }: Pick<OpenGeneratorOptions, 'onWarning'>,
  ) {
    this.model = model;
    this.tokenizer = tokenizer;
    this.endTokens = endTokens;
    this.context = context;
    this.#child = child;
    this.#cacheDir = cacheDir;
    this.#onWarning = onWarning;
  }

  submit(request: GenerateRequest): Generation {
    const { tokenizer, endTokens } = this;
    return new RunningGeneration(request, { tokenizer, endTokens }, async (onToken, signal) => {
      checkGenerateRequest(request, this.#limits);
      const { tokens, sampling = {}, maxTokens = this.context, client = '' } = request;
      const message = {
        tokens,
        sampling,
        maxTokens,
        client,
        adapter: request.adapter ?? null,
        endTokens: request.endTokens ?? endTokens,
        logprobs: request.logprobs ?? null,
      };
      return this.#child.call('generate', message, { signal, onProgress: onToken });
    });
  }

  async score(request: ScoreRequest): Promise<ScoredToken[]> {
    checkScoreRequest(request, this.#limits);
    const { tokens, adapter = null, top = 0, from = 1, client = '', signal } = request;
    const message = { tokens, adapter, top, from, client };
    return withAbortReason(signal, () => this.#child.call('score', message, { signal }));
  }

  async addAdapter(folder: string, { signal }: { signal?: AbortSignal } = {}): Promise<LoadedAdapter> {
    const path = resolve(folder);
    return withAbortReason(signal, async () => {
      // The process reads the adapter itself. This process reads it only to check that it belongs to the base.
      const adapter = await readPeftFolder(path, this.model);
      await checkBase(this.model, adapter, { signal, cacheDir: this.#cacheDir });
      const warning = baseWarning(this.model, adapter);
      if (warning !== null) this.#onWarning?.(warning);
      return { id: await this.#child.call('addAdapter', { folder: path }, { signal }) };
    });
  }

  async removeAdapter(id: string): Promise<void> {
    await this.#child.call('removeAdapter', { id });
  }

  status(): Promise<GeneratorStatus> {
    return this.#child.call('status', null);
  }

  async close(): Promise<void> {
    const timer = setTimeout(() => this.#child.process.kill('SIGKILL'), STOP_GRACE_MS);
    // If the process has already died, the call fails, and there is nothing left to stop.
    void this.#child.call('stop', null).catch(() => {});
    this.#child.fail(generateError('GENERATOR_CLOSED', 'the generator was closed'));
    await this.#child.closed;
    clearTimeout(timer);
  }

  get #limits() {
    return { vocabularySize: this.model.config.vocabularySize, context: this.context };
  }
}

function died({ code, signal, stderr, cause }: ChildEnd): SwarmError {
  const how = signal !== null ? `was killed by ${signal}` : `exited with code ${code}`;
  const advice = signal === 'SIGKILL' ? ', possibly because memory ran out' : '';
  return generateError(
    'GENERATOR_DIED',
    `the generator process ${how}${advice}`,
    { code, signal, stderr },
    { cause },
  );
}
