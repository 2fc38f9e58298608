import type { SwarmError } from '../../index.ts';
import { serveError } from '../../serve/errors.ts';
import type { ChatPartner } from './session.ts';

export interface RemoteChatOptions {
  /** Root of the server's URLs, with or without `/v1`. */
  readonly url: string;
  /** Name of the model; null for the first adapter of the server, or for its base if it has no adapter. */
  readonly model: string | null;
  /** API key to send; null to send none. */
  readonly key: string | null;
  /** Maximum number of tokens of an answer. An answer never has more than half of the tokens that the model can hold. */
  readonly maxTokens: number;
  readonly sampling: { readonly temperature: number; readonly topP: number; readonly seed: number };
  readonly signal: AbortSignal;
}

/** A model of a running server as a chat partner. */
export interface RemoteChat extends ChatPartner {
  readonly model: string;
}

interface ListedModel {
  readonly id: string;
  /** The base of an adapter. */
  readonly parent?: string | null;
  /** Maximum number of tokens of prompt and answer together. Not every server knows it. */
  readonly max_model_len?: number | null;
}

interface Chunk {
  readonly choices?: readonly { readonly delta?: { readonly content?: string | null } }[];
  readonly error?: { readonly message?: string; readonly code?: string | null };
}

/** Opens a chat with a server of OpenAI's API. @throws SwarmError SERVER_REFUSED, SERVER_UNREACHABLE */
export async function openRemoteChat(options: RemoteChatOptions): Promise<RemoteChat> {
  const { url, key, sampling } = options;
  const root = url.replace(/\/+$/, '').replace(/\/v1$/, '');
  const send = async (path: string, init: RequestInit, signal: AbortSignal): Promise<Response> => {
    const headers = { ...init.headers, ...(key !== null && { authorization: `Bearer ${key}` }) };
    let response: Response;
    try {
      response = await fetch(`${root}/v1${path}`, { ...init, headers, signal });
    } catch (cause) {
      signal.throwIfAborted();
      throw serveError('SERVER_UNREACHABLE', `no server answers at ${root}`, { url: root }, { cause });
    }
    if (response.ok) return response;
    throw refusal(await response.text(), response.status);
  };
  const listed = await listModels(await send('/models', {}, options.signal));
  const model = options.model ?? firstModel(listed);
  const context = listed.find(({ id }) => id === model)?.max_model_len ?? Number.POSITIVE_INFINITY;
  const maxTokens = Math.min(options.maxTokens, Math.max(1, Math.floor(context / 2)));
  return {
    model,
    async answer(messages, { onText, signal }) {
      const { temperature, topP, seed } = sampling;
      const body = {
        model,
        messages,
        max_tokens: maxTokens,
        temperature,
        top_p: topP,
        seed,
        stream: true,
      };
      const init = {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      };
      const response = await send('/chat/completions', init, signal);
      for await (const chunk of chunksOf(response)) {
        if (chunk.error) throw refusal(JSON.stringify(chunk), response.status);
        const content = chunk.choices?.[0]?.delta?.content;
        if (content) onText(content);
      }
    },
  };
}

async function listModels(response: Response): Promise<ListedModel[]> {
  const { data } = (await response.json()) as { data: ListedModel[] };
  return data;
}

function firstModel(data: readonly ListedModel[]): string {
  const model = data.find(({ parent }) => parent !== null && parent !== undefined) ?? data[0];
  if (model === undefined) throw refusal('the server has no model', 404);
  return model.id;
}

/** Parses server-sent events up to `[DONE]`. */
async function* chunksOf(response: Response): AsyncGenerator<Chunk, void, undefined> {
  let rest = '';
  const decoder = new TextDecoder();
  for await (const bytes of response.body!) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split(/\r?\n/);
    rest = lines.pop()!;
    for (const line of lines) {
      const [, data] = /^data: ?(.*)$/.exec(line) ?? [];
      if (data === undefined) continue;
      if (data === '[DONE]') return;
      yield JSON.parse(data) as Chunk;
    }
  }
}

/** Converts the body and the HTTP status of a refused request to an error. */
function refusal(text: string, status: number): SwarmError {
  let [message, code]: [string, string | null] = [text.slice(0, 500), null];
  try {
    const { error } = JSON.parse(text) as Chunk;
    message = error?.message ?? message;
    code = error?.code ?? null;
  } catch {
    // The body is not JSON, so it is shown unchanged.
  }
  if (code === 'context_length_exceeded') return serveError('CONTEXT_TOO_LONG', message, {});
  return serveError('SERVER_REFUSED', `the server answered ${status}: ${message}`, { status, code });
}
