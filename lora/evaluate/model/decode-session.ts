/** Decoding with a cache of keys and values, in this process, for engines that support such a cache. */
import { servedAdapter } from '../../generate/adapters.ts';
import { DecodeModel } from '../../generate/decode-model.ts';
import { Scheduler } from '../../generate/scheduler.ts';
import type { ModelBundle } from '../model-bundle.ts';

/** Number of sequences that are continued at once. */
const ROWS = 8;
/** Memory for keys and values, in bytes. At most half of it holds prefixes that later requests may share. */
const CACHE_BYTES = 2 ** 30;

/** A scheduler, and the adapter with which it computes all requests. */
export interface DecodeSession {
  readonly scheduler: Scheduler;
  readonly adapter: ReturnType<typeof servedAdapter> | null;
  dispose(): Promise<void>;
}

/**
 * Opens a session for `requests` requests of at most `context` tokens each. Returns null if the engine has no graphs of
 * dynamic size, because the cache needs them.
 */
export function openDecodeSession(
  bundle: ModelBundle,
  context: number,
  requests: number,
): DecodeSession | null {
  const { model, weights, adapter, engine } = bundle;
  if (engine.compileDynamic === undefined) return null;
  const { config } = model;
  const decoder = new DecodeModel({ model, weights, context }, { compile: engine.compileDynamic });
  const limits = { config, context, rows: ROWS, waiting: requests, cacheBytes: CACHE_BYTES };
  return {
    scheduler: new Scheduler(decoder, limits),
    adapter: adapter === null ? null : servedAdapter(model, adapter),
    dispose: () => decoder.dispose(),
  };
}
