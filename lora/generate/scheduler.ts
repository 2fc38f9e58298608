import type { ServedAdapter } from './adapters.ts';
import { Batch } from './batch.ts';
import type { DecodeModel } from './decode-model.ts';
import { generateError } from './errors.ts';
import { FairQueue } from './fair-queue.ts';
import { PrefixCache } from './prefix-cache.ts';
import { RowCache } from './row-cache.ts';
import { logSumExp, Sampler, topTokens } from './sampling.ts';
import type { ScoredToken } from './types.ts';
import {
  type ChosenToken,
  type Continued,
  type EndReason,
  type Prefill,
  prefixKey,
  recordScore,
  type SchedulerOptions,
  type ScoredSequence,
  type SequenceRequest,
  type Work,
  workOf,
} from './work.ts';

/**
 * Maximum number of prompt tokens in one run of the model. It is large enough for fast matrix products, and small
 * enough that running sequences do not wait long for their next token.
 */
const CHUNK_TOKENS = 128;
/** Maximum number of logits that one run of a scored sequence returns. This many logits take 64 MiB. */
const SCORED_LOGITS = 2 ** 24;

/**
 * Continues sequences together (continuous batching). It alternates between two kinds of runs of the model. The
 * first kind predicts the next token of every running sequence. The second kind runs the model on a part of a new
 * sequence's prompt. Sequences join and leave between these runs.
 */
export class Scheduler {
  readonly #model: DecodeModel;
  readonly #options: SchedulerOptions;
  readonly #queue = new FairQueue<Work>();
  readonly #prefixes: PrefixCache;
  /** Batches by the id of an adapter that needs a separate graph. The batch '' holds all other sequences. */
  readonly #batches = new Map<string, Batch<Work>>();
  #prefill: Prefill | null = null;
  #loop: Promise<void> | null = null;

  constructor(model: DecodeModel, options: SchedulerOptions) {
    this.#model = model;
    this.#options = options;
    this.#prefixes = new PrefixCache({ shape: options.config, limit: options.cacheBytes / 2 });
  }

  /**
   * Continues a sequence.
   * @throws SwarmError GENERATE_BUSY, ENGINE_*; the signal's reason
   */
  generate(
    request: SequenceRequest,
    onToken: (token: ChosenToken) => void,
    signal: AbortSignal,
  ): Promise<EndReason> {
    return new Promise((resolve, reject) => {
      const generation: Continued = {
        request,
        sampler: new Sampler(request.sampling, request.tokens),
        onToken,
        generated: 0,
        cachedTokens: null,
        finish: resolve,
      };
      this.#add({ ...workOf(request), signal, end: reject, generation, scored: null });
    });
  }

  /** Scores a sequence. @throws the errors of `generate` */
  async score({ from, top, ...request }: ScoredSequence, signal: AbortSignal): Promise<ScoredToken[]> {
    const found: ScoredToken[] = [];
    await new Promise<void>((resolve, reject) => {
      const end = (error: unknown) => (error === null ? resolve() : reject(error));
      const work = { ...workOf(request), signal, end, generation: null, scored: { from, top, found } };
      if (from >= request.tokens.length) resolve();
      else this.#add(work);
    });
    const unknown = request.tokens.length - found.length;
    const before = request.tokens.slice(0, unknown).map((id) => ({ id, logprob: null, top: null }));
    return [...before, ...found];
  }

  status(): { running: number; waiting: number; cacheBytes: number; prefixBytes: number } {
    return {
      running: this.#running + (this.#prefill === null ? 0 : 1),
      waiting: this.#queue.size,
      cacheBytes: this.#cacheBytes,
      prefixBytes: this.#prefixes.bytes,
    };
  }

  /** Forgets the keys and values of an adapter. */
  forget({ id }: ServedAdapter): void {
    for (const exact of [false, true]) this.#prefixes.forget(prefixKey(id, exact));
  }

  get #running(): number {
    return [...this.#batches.values()].reduce((sum, { rows }) => sum + rows.length, 0);
  }

  get #cacheBytes(): number {
    return [...this.#batches.values()].reduce(
      (sum, { bytes }) => sum + bytes,
      this.#prefill?.cache.bytes ?? 0,
    );
  }

  #add(work: Work): void {
    const { waiting } = this.#options;
    if (work.signal.aborted) {
      work.end(work.signal.reason);
      return;
    }
    if (this.#queue.size >= waiting) {
      const message = `${waiting} requests are waiting already, which is the maximum`;
      work.end(generateError('GENERATE_BUSY', message, { waiting }));
      return;
    }
    this.#queue.push(work.client, work);
    this.#loop ??= this.#run();
  }

  /** Runs the model until no sequence is left. An unexpected error ends all sequences. */
  async #run(): Promise<void> {
    try {
      await this.#compute();
    } catch (error) {
      const works = [...this.#batches.values()].flatMap(({ rows }) => rows);
      if (this.#prefill !== null) works.push(this.#prefill.work);
      for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) works.push(next);
      this.#batches.clear();
      this.#prefill = null;
      for (const work of works) work.end(error);
    }
    // Run again if a request has arrived after the queue was last checked.
    this.#loop = this.#queue.size > 0 ? this.#run() : null;
  }

  async #compute(): Promise<void> {
    for (;;) {
      // A run of the graph blocks the thread, so handle new requests and cancellations between two runs.
      await new Promise(setImmediate);
      this.#dropCancelled();
      this.#admit();
      if (this.#running === 0 && this.#prefill === null) break;
      for (const batch of this.#batches.values()) await this.#step(batch);
      await this.#computePrompt();
    }
  }

  #dropCancelled(): void {
    for (const work of this.#queue.removeWhere(({ signal }) => signal.aborted)) work.end(work.signal.reason);
    for (const batch of this.#batches.values()) {
      for (const work of batch.rows.filter(({ signal }) => signal.aborted)) {
        batch.leave(work);
        work.end(work.signal.reason);
      }
    }
    const work = this.#prefill?.work;
    if (!work?.signal.aborted) return;
    this.#prefill = null;
    work.end(work.signal.reason);
  }

  /**
   * Starts to compute the prompt of the next request, if fewer requests than the maximum are running and there is
   * memory for one more.
   */
  #admit(): void {
    const next = this.#queue.peek();
    if (next === undefined || this.#prefill !== null || this.#running >= this.#options.rows) return;
    const { config, cacheBytes } = this.#options;
    const others = [...this.#batches.values()].filter((batch) => batch !== this.#batchOf(next));
    const needed = this.#batchOf(next).bytesWith(next.tokens.length + 1);
    const used = others.reduce((sum, { bytes }) => sum + bytes, needed);
    if (used > cacheBytes && this.#running > 0) return;
    this.#prefixes.shrink(Math.max(0, cacheBytes - used));
    const work = this.#queue.shift()!;
    const cache = new RowCache(config, 1, work.tokens.length);
    const { scored, generation } = work;
    const most = scored === null ? work.tokens.length - 1 : scored.from - 1;
    const done = this.#prefixes.restore(this.#keyOf(work), work.tokens, cache, most);
    if (generation !== null) generation.cachedTokens ??= done;
    this.#prefill = { work, cache, done };
  }

  #keyOf({ adapter, scored }: Work): string {
    return prefixKey(adapter?.id ?? '', scored !== null && this.#model.isRounded);
  }

  #batchOf({ adapter }: Work): Batch<Work> {
    const key = adapter === null || adapter.modules !== null ? '' : adapter.id;
    const batch = this.#batches.get(key) ?? new Batch(this.#options.config);
    this.#batches.set(key, batch);
    return batch;
  }

  async #step(batch: Batch<Work>): Promise<void> {
    this.#makeSpace(batch);
    if (batch.rows.length === 0) return;
    const rows = [...batch.rows];
    try {
      const logits = await batch.step(this.#model);
      for (const [i, work] of rows.entries()) this.#choose(work, logits[i]!, batch);
    } catch (error) {
      for (const work of rows) {
        if (batch.rows.includes(work)) batch.leave(work);
        work.end(error);
      }
    }
  }

  /** Puts the youngest sequences back into the queue if the caches have grown beyond the memory limit. */
  #makeSpace(batch: Batch<Work>): void {
    const { cacheBytes } = this.#options;
    const others = this.#cacheBytes - batch.bytes;
    while (batch.rows.length > 1 && others + batch.bytesWith(0) > cacheBytes) {
      const youngest = batch.rows.at(-1)!;
      batch.leave(youngest);
      batch.compact();
      this.#queue.putBack(youngest.client, youngest);
    }
    this.#prefixes.shrink(Math.max(0, cacheBytes - others - batch.bytesWith(0)));
  }

  /** Runs the model on the next part of the prompt. After the last part, the sequence joins its batch. */
  async #computePrompt(): Promise<void> {
    const prefill = this.#prefill;
    if (prefill === null) return;
    const { work, cache, done } = prefill;
    try {
      const size = work.scored === null ? CHUNK_TOKENS : this.#scoredChunk();
      const end = Math.min(done + size, work.tokens.length);
      const first = work.scored === null ? work.tokens.length - 1 : work.scored.from - 1;
      const wanted = Array.from({ length: end - done }, (_, i) => i).filter((i) => done + i >= first);
      const logits = await this.#model.run({
        cache,
        tokens: [work.tokens.slice(done, end)],
        cached: [done],
        adapters: [work.adapter],
        exact: work.scored !== null,
        // If no logits are wanted, ask for the logits of the first token, because a run must return some.
        wanted: wanted.length > 0 ? wanted : [0],
      });
      prefill.done = end;
      if (work.scored !== null) {
        for (const [i, index] of wanted.entries()) recordScore(work, done + index + 1, logits[i]!);
      }
      if (end < work.tokens.length) return;
      this.#prefill = null;
      this.#prefixes.store(this.#keyOf(work), work.tokens, cache, 0);
      if (work.generation === null) work.end(null);
      else this.#choose(work, logits.at(-1)!, null, cache);
    } catch (error) {
      this.#prefill = null;
      work.end(error);
    }
  }

  #scoredChunk(): number {
    return Math.max(
      1,
      Math.min(CHUNK_TOKENS, Math.floor(SCORED_LOGITS / this.#options.config.vocabularySize)),
    );
  }

  /**
   * Chooses the next token of a sequence. If the sequence is not in a batch yet, it joins a batch.
   * @param from the keys and values of a sequence that is not in a batch yet
   */
  #choose(work: Work, logits: Float32Array, batch: Batch<Work> | null, from?: RowCache): void {
    const generation = work.generation!;
    const { request, sampler, onToken, finish } = generation;
    const id = sampler.next(logits);
    const normaliser = request.logprobs === null ? 0 : logSumExp(logits);
    const logprob = request.logprobs === null ? null : logits[id]! - normaliser;
    const top = topTokens(logits, request.logprobs ?? 0, normaliser);
    onToken({ id, logprob, top, cachedTokens: generation.cachedTokens ?? 0 });
    generation.generated++;
    const isEnd = request.endTokens.includes(id);
    const isFull =
      generation.generated >= request.maxTokens || work.tokens.length + 1 >= this.#options.context;
    if (isEnd || isFull) {
      if (batch !== null) {
        this.#prefixes.store(this.#keyOf(work), work.tokens, batch.cache, batch.rows.indexOf(work));
        batch.leave(work);
      }
      finish(isEnd ? 'end' : 'length');
      return;
    }
    work.tokens.push(id);
    if (batch === null) this.#batchOf(work).join(work, from!);
  }
}
