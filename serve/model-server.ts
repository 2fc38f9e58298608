/** A server of models with OpenAI's API, as `lora-swarm serve` runs it. */
import { randomInt } from 'node:crypto';
import { isIP } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { commonError } from '../common/common-errors.ts';
import { isSwarmError } from '../common/errors.ts';
import type { Logger } from '../common/logger.ts';
import { packageVersion } from '../common/package.ts';
import { checkOptions } from '../common/schema-problems.ts';
import { systemClock } from '../common/time/system-clock.ts';
import { readTemplates } from '../lora/data/render/chat-template.ts';
import type { Generator } from '../lora/generate/types.ts';
import { silentLogger } from '../monitor/logs/log.ts';
import { portSchema } from '../monitor/loopback-server.ts';
import { createServeMetrics } from '../monitor/metrics/serve-metrics.ts';
import { Admission } from './admission.ts';
import { TokenTexts } from './answers/token-texts.ts';
import { ChatTemplates } from './chat-templates.ts';
import { serveError } from './errors.ts';
import { Access } from './http/access.ts';
import type { RouteContext, ServedRequest } from './http/context.ts';
import { createHttpServer } from './http/server.ts';
import type { TokenizerInfo } from './http/tokens.ts';
import { type AdapterSource, folderSource } from './models/adapter-source.ts';
import { Catalog, type ModelEntry } from './models/catalog.ts';

/**
 * Default of {@link ModelServerOptions.maxAdapters}. 16 adapters of rank 16 for a model of 1 billion parameters take
 * about 1 GB.
 */
export const MAX_ADAPTERS = 16;
/**
 * Default limits on unanswered sequences. The limit per client allows one request with the maximum number of prompts.
 */
export const MAX_UNANSWERED = 1024;
export const MAX_UNANSWERED_PER_CLIENT = 256;
/** Default deadline for stopping, in milliseconds. */
const STOP_MS = 4_500;
/**
 * A stopping server interrupts the running answers this many milliseconds before its deadline. In this time, each
 * answer sends its last event, which reports the error.
 */
const LAST_EVENT_MS = 300;
/** Interval in milliseconds at which a stopping server checks whether all requests have been answered. */
const POLL_MS = 20;

/** An adapter in a folder. */
export interface FolderAdapter {
  /** Name of the adapter in requests. */
  readonly name: string;
  /** PEFT folder of the adapter. */
  readonly folder: string;
}

/** Address, access and limits of a server of models. */
export interface ModelServerOptions {
  /** Name of the base in requests and answers. The name `base` always works too. */
  readonly name: string;
  /** Adapters by name: PEFT folders, or sources with several versions. @default none */
  readonly adapters?: readonly (AdapterSource | FolderAdapter)[];
  /** IP address or host name to listen on. @default 127.0.0.1 */
  readonly host?: string;
  /** @default 0, which means any free port */
  readonly port?: number;
  /**
   * Valid API keys. A server that listens on more than loopback needs at least one. @default none, so that clients need
   * no key
   */
  readonly keys?: readonly string[];
  /** Origins of web pages that may send requests (CORS); `*` allows all. @default none */
  readonly origins?: readonly string[];
  /**
   * Chat template for all models: `chatml`, `plain` or the path of a file. @default null, which means the adapter's own
   * template, or the base's template if the adapter has none
   */
  readonly template?: string | null;
  /** Maximum number of adapters in memory. @default 16 */
  readonly maxAdapters?: number;
  /** Maximum number of unanswered sequences of all clients together. @default 1024 */
  readonly maxUnanswered?: number;
  /** Maximum number of unanswered sequences of one client. @default 256 */
  readonly maxUnansweredPerClient?: number;
}

/** Options of a server of models. The options that this schema leaves out are checked by `Access` and `listen`. */
const optionsSchema = z
  .object({
    name: z.string().min(1).max(512),
    port: portSchema,
    maxAdapters: z.int().min(1),
    maxUnanswered: z.int().min(1),
    maxUnansweredPerClient: z.int().min(1),
  })
  .partial();

/** Dependencies of a server. All except `generator` have defaults. */
export interface ModelServerDeps {
  /** The base in memory. The server does not close it. */
  readonly generator: Generator;
  /** Finds an adapter in the registry, for clients that load one by its name. @default there is no registry */
  readonly registry?: (name: string) => Promise<AdapterSource | null>;
  /** Called with each request that has ended. @default does nothing */
  readonly onServed?: (request: ServedRequest) => void;
  /** @default logs nothing */
  readonly log?: Logger;
}

/** A server that answers requests. */
export interface ModelServer {
  /** URL of the server. The base URL for OpenAI clients is `<url>/v1`. */
  readonly url: string;
  /** Description of where the chat template of the base comes from; null if the base has none. */
  readonly template: string | null;
  /** Lists the base and the named adapters that the server offers now. */
  models(): Promise<ModelEntry[]>;
  /**
   * Refuses new requests, waits for the running ones, and closes all connections. Requests that still run 300 ms before
   * the deadline end with an error. Idempotent.
   * @param options `deadlineMs`: deadline in milliseconds, 4,500 by default
   */
  stop(options?: { deadlineMs?: number }): Promise<void>;
}

/**
 * Starts a server of models. Its adapters are loaded before it listens.
 * @throws SwarmError USAGE, API_KEY_MISSING, MODEL_NAME_TAKEN, MODEL_NOT_SERVED, ADAPTER_*, LORA_*, TEMPLATE_UNREADABLE,
 *   LISTEN_FAILED
 */
export async function startModelServer(
  options: ModelServerOptions,
  { generator, registry, onServed = () => {}, log = silentLogger }: ModelServerDeps,
): Promise<ModelServer> {
  checkOptions(optionsSchema, options);
  const { host = '127.0.0.1', port = 0, keys = [], origins = [], template = null } = options;
  const { maxUnanswered = MAX_UNANSWERED, maxUnansweredPerClient = MAX_UNANSWERED_PER_CLIENT } = options;
  const loopback = isLoopback(host);
  if (!loopback && keys.length === 0) {
    const message = `anyone who reaches ${host} could use this server, because it has no API key`;
    throw serveError('API_KEY_MISSING', message, { host });
  }
  const { adapters = [], maxAdapters = MAX_ADAPTERS, name } = options;
  const clock = systemClock;
  const catalog = new Catalog(
    { base: name, maxLoaded: maxAdapters, sources: adapters.map(sourceOf) },
    { generator, now: clock.now, log, ...(registry && { registry }) },
  );
  await catalog.preload();
  const { dir } = generator.model;
  const admission = new Admission(
    { perClient: maxUnansweredPerClient, total: maxUnanswered },
    { now: clock.monotonic },
  );
  const templates = await ChatTemplates.open({ dir, template }, { now: clock.now });
  const metrics = createServeMetrics({
    version: packageVersion(),
    gauges: () => generator.status().catch(() => null),
  });
  const stopping = new AbortController();
  let isDraining = false;
  const context: RouteContext = {
    generator,
    catalog,
    tokenTexts: new TokenTexts(generator),
    templates,
    admission,
    access: new Access({ keys, origins, loopback }),
    log,
    clock,
    randomSeed: () => randomInt(2 ** 31),
    isDraining: () => isDraining,
    stopping: stopping.signal,
    onStreamError: ({ url }, error) => {
      // If the client has disconnected, the access line of the request already says so.
      if (!isSwarmError(error, 'SERVE_CLIENT_GONE')) log.warn({ url, error }, 'stream-ended');
    },
  };
  const server = createHttpServer({
    ...context,
    tokenizerInfo: await tokenizerInfo(dir, template),
    onServed: (request) => {
      metrics.requestServed(request);
      onServed(request);
    },
    metrics: async () => ({
      contentType: metrics.registry.contentType,
      text: await metrics.registry.metrics(),
    }),
  });
  let url: string;
  try {
    url = await server.listen({ host, port });
  } catch (cause) {
    metrics.stop();
    await templates.close();
    const reason = cause instanceof Error ? cause.message.replace(/^listen /, '') : String(cause);
    const listen = `${host}:${port}`;
    throw commonError('LISTEN_FAILED', `could not listen on ${listen}: ${reason}`, { listen }, { cause });
  }

  const idle = async (ms: number): Promise<void> => {
    const end = clock.monotonic() + ms;
    while (admission.unanswered > 0 && clock.monotonic() < end) await sleep(POLL_MS);
  };
  let stopped: Promise<void> | null = null;
  const stop = async (deadlineMs: number): Promise<void> => {
    isDraining = true;
    await idle(deadlineMs - LAST_EVENT_MS);
    stopping.abort(serveError('SERVE_STOPPING', 'the server is stopping'));
    await idle(LAST_EVENT_MS);
    await server.close();
    metrics.stop();
    await templates.close();
  };
  return {
    url,
    template: templates.origin,
    models: () => catalog.list(),
    stop: ({ deadlineMs = STOP_MS } = {}) => {
      stopped ??= stop(deadlineMs);
      return stopped;
    },
  };
}

function sourceOf(adapter: AdapterSource | FolderAdapter): AdapterSource {
  return 'folder' in adapter ? folderSource(adapter.name, adapter.folder) : adapter;
}

/** Returns whether an address can be reached from this machine only. */
function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

async function tokenizerInfo(dir: string, template: string | null): Promise<TokenizerInfo> {
  const { sources, specialTokens } = await readTemplates(dir, template);
  return {
    bos_token: specialTokens.bos_token ?? null,
    eos_token: specialTokens.eos_token ?? null,
    pad_token: specialTokens.pad_token ?? null,
    unk_token: specialTokens.unk_token ?? null,
    chat_template: sources?.templates.default ?? null,
  };
}
