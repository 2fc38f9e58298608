/** A generator that computes nothing. It answers with texts that the test chooses, and records the requests. */

import { join } from 'node:path';
import { commonError } from '../../../common/common-errors.ts';
import { packageRoot } from '../../../common/package.ts';
import { loadTokenizer } from '../../../lora/data/tokenizer.ts';
import type {
  GeneratedToken,
  GenerateRequest,
  Generation,
  GenerationResult,
  Generator,
  ScoreRequest,
  TokenLogprob,
} from '../../../lora/generate/types.ts';
import { openBase } from '../../../lora/models/base/base-model.ts';

export interface FakeGeneratorOptions {
  /** Returns the text of an answer. @default "a b c" and so on, without an end */
  readonly answer?: (request: GenerateRequest) => { text: string; ends?: boolean };
  /** Awaited before each token. @default nothing */
  readonly beforeToken?: (request: GenerateRequest, position: number) => Promise<void> | void;
  /** @default 512, as models/nano */
  readonly context?: number;
}

export interface FakeGenerator extends Generator {
  readonly submitted: GenerateRequest[];
  readonly scored: ScoreRequest[];
  /** Folders of the loaded adapters, which are their ids, too. */
  readonly loaded: Set<string>;
  /** Number of requests whose signal aborted before their end. */
  readonly cancelled: () => number;
}

const FOREVER = ' a b c d e f g h'.repeat(200);

/** Log-probability of each generated token of the fake. */
export const FAKE_LOGPROB = -0.5;

/** Log-probability of the token at a position of a scored sequence. Every second token is the most likely one. */
export function fakeScore(ids: readonly number[], at: number): { logprob: number; top: TokenLogprob[] } {
  const logprob = -at / 8;
  const own = { id: ids[at]!, logprob };
  const other = { id: (ids[at]! + 1) % 4096, logprob: at % 2 === 0 ? logprob - 1 : logprob / 2 };
  return { logprob, top: at % 2 === 0 ? [own, other] : [other, own] };
}

/** Makes a fake with the tokenizer of models/nano. */
export async function fakeGenerator({
  answer = () => ({ text: FOREVER }),
  beforeToken,
  context = 512,
}: FakeGeneratorOptions = {}): Promise<FakeGenerator> {
  const dir = join(packageRoot(), 'models', 'nano');
  const [model, tokenizer] = await Promise.all([openBase(dir), loadTokenizer(dir)]);
  const submitted: GenerateRequest[] = [];
  const scored: ScoreRequest[] = [];
  const loaded = new Set<string>();
  const running = new Set<GenerateRequest>();
  let cancelled = 0;
  const endTokens = [tokenizer.eosId!];

  const checkAdapter = (adapter: string | undefined): void => {
    if (adapter !== undefined && !loaded.has(adapter)) throw commonError('USAGE', `no adapter ${adapter}`);
  };

  async function* tokensOf(
    request: GenerateRequest,
    done: (result: GenerationResult) => void,
  ): AsyncGenerator<GeneratedToken, void, undefined> {
    const { maxTokens = context, stop = [], logprobs, signal, tokens } = request;
    const ends = request.endTokens ?? endTokens;
    checkAdapter(request.adapter);
    const { text, ends: endsItself = false } = answer(request);
    const planned = tokenizer.encode(text, { special: false });
    if (endsItself && ends.length > 0) planned.push(ends[0]!);
    const ids: number[] = [];
    let [shown, reason]: [string, GenerationResult['reason']] = ['', 'length'];
    for (const id of planned.slice(0, maxTokens)) {
      await new Promise(setImmediate);
      await beforeToken?.(request, ids.length);
      signal?.throwIfAborted();
      ids.push(id);
      const whole = tokenizer.decode(ids);
      const stopAt = stop.map((one) => whole.indexOf(one)).filter((at) => at >= 0);
      // Text that may begin a stop string is held back, and so are the bytes of an incomplete character.
      const isLast = ids.length === Math.min(planned.length, maxTokens);
      const held = isLast ? 0 : Math.max(0, ...stop.map(({ length }) => length - 1));
      const certain = whole.endsWith('\ufffd') && !isLast ? shown : whole.slice(0, whole.length - held);
      const ready =
        stopAt.length > 0
          ? whole.slice(0, Math.min(...stopAt))
          : certain.length > shown.length
            ? certain
            : shown;
      const scores = logprobs === undefined ? null : FAKE_LOGPROB;
      const top = Array.from({ length: logprobs ?? 0 }, (_, i) => ({
        id: id + i,
        logprob: FAKE_LOGPROB - i,
      }));
      yield { id, text: ready.slice(shown.length), logprob: scores, top };
      shown = ready;
      if (stopAt.length > 0) reason = 'stop';
      else if (ends.includes(id)) reason = 'end';
      if (reason !== 'length') break;
    }
    done({ text: shown, ids, reason, promptTokens: tokens.length, cachedTokens: tokens.length - 1 });
  }

  return {
    model,
    tokenizer,
    context,
    endTokens,
    submitted,
    scored,
    loaded,
    cancelled: () => cancelled,
    submit(request): Generation {
      submitted.push(request);
      running.add(request);
      const { promise: result, resolve, reject } = Promise.withResolvers<GenerationResult>();
      const iterate = async function* (): AsyncGenerator<GeneratedToken, void, undefined> {
        let ended = false;
        try {
          yield* tokensOf(request, (value) => {
            ended = true;
            resolve(value);
          });
        } catch (error) {
          reject(error);
          throw error;
        } finally {
          running.delete(request);
          if (!ended) cancelled++;
        }
      };
      return { result, [Symbol.asyncIterator]: iterate };
    },
    async score(request) {
      scored.push(request);
      checkAdapter(request.adapter);
      return request.tokens.map((id, i) => {
        if (i === 0) return { id, logprob: null, top: null };
        const { logprob, top } = fakeScore(request.tokens, i);
        return { id, logprob, top: top.slice(0, request.top ?? 0) };
      });
    },
    async addAdapter(folder) {
      loaded.add(folder);
      return { id: folder };
    },
    async removeAdapter(id) {
      loaded.delete(id);
    },
    status: async () => ({
      running: running.size,
      waiting: 0,
      cacheBytes: 0,
      prefixBytes: 0,
      memoryBytes: 0,
      adapters: [...loaded],
    }),
    close: async () => {},
  };
}
