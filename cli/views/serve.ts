import { countOf, formatCount, formatDuration, safeText } from '../../common/text.ts';
import type { AdapterSource, ServedRequest } from '../../index.ts';
import { timeOfDay } from '../print.ts';

/** Facts about a server that `lora-swarm serve` prints when it is ready. */
export interface ReadyServer {
  readonly url: string;
  /**
   * Source of the chat template of the base, or of the chat template for all models, as text; null if there is no
   * template.
   */
  readonly template: string | null;
  /** Names of the adapters that have their own chat template. */
  readonly ownTemplates: readonly string[];
  readonly hasKeys: boolean;
}

/** Returns the lines that `lora-swarm serve` prints when it is ready. */
export function readyLines(
  { url, template, ownTemplates, hasKeys }: ReadyServer,
  adapters: readonly AdapterSource[],
  models: readonly string[],
): string[] {
  const missing = 'none, so /v1/chat/completions needs --template chatml, plain or a file';
  return [
    `model       ${models[0]}  (also as "base")`,
    ...adapters.map(({ name, origin }) => `adapter     ${name}  (${origin})`),
    ...ownTemplates.map((name) => `template    ${name}: its own`),
    `template    ${ownTemplates.length === 0 ? '' : 'other models: '}${template ?? missing}`,
    `key         ${hasKeys ? 'required' : 'none required'}`,
    `url         ${url}/v1`,
    'ready       Ctrl-C stops the server',
  ];
}

/** Maximum length of a path, and of a model name, in an access line, in characters. */
const SHOWN_CHARACTERS = 100;

/** Returns the access line of a request. @param now milliseconds since 1970 */
export function servedLine(request: ServedRequest, now: number): string {
  const { method, status, client, promptTokens, completionTokens, ms, firstTokenMs } = request;
  // The client chooses the path and the model name. Both can be long, so they are shortened.
  const path = safeText(request.path, { maxCharacters: SHOWN_CHARACTERS });
  const model = request.model === null ? null : safeText(request.model, { maxCharacters: SHOWN_CHARACTERS });
  const tokens =
    promptTokens === 0 ? '' : `  ${formatCount(promptTokens)} + ${countOf(completionTokens, 'token')}`;
  const seconds = ms / 1000;
  const speed =
    completionTokens > 1 && firstTokenMs !== null && ms > firstTokenMs
      ? `  ${formatCount(((completionTokens - 1) * 1000) / (ms - firstTokenMs))}/s`
      : '';
  const named = model === null ? '' : `  ${model}`;
  return `${timeOfDay(now)}  ${status}  ${method} ${path}${named}${tokens}  ${formatDuration(seconds)}${speed}  ${client}`;
}
