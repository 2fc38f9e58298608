import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from '../../common/logger.ts';
import type { Clock } from '../../common/time/clock.ts';
import type { Generator } from '../../lora/generate/types.ts';
import type { Admission } from '../admission.ts';
import type { TokenTexts } from '../answers/token-texts.ts';
import type { ChatTemplates } from '../chat-templates.ts';
import { serveError } from '../errors.ts';
import type { Catalog } from '../models/catalog.ts';
import type { Access } from './access.ts';

/** A request that has been answered, for access lines and metrics. */
export interface ServedRequest {
  readonly method: string;
  readonly path: string;
  readonly status: number;
  /** Name of the client in limits: `key N`, where N is the position of its API key, or its network address. */
  readonly client: string;
  /** Model as the request named it; null if it named none. */
  readonly model: string | null;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly completionTokens: number;
  /** Milliseconds from the request to its first piece of text; null if there was none. */
  readonly firstTokenMs: number | null;
  /** Milliseconds from the request to the end of its answer. */
  readonly ms: number;
}

/** Everything that the routes use. */
export interface RouteContext {
  readonly generator: Generator;
  readonly catalog: Catalog;
  readonly tokenTexts: TokenTexts;
  /** Makes prompts from conversations. */
  readonly templates: ChatTemplates;
  readonly admission: Admission;
  readonly access: Access;
  readonly log: Logger;
  readonly clock: Clock;
  /** Returns a seed for requests that have none. */
  readonly randomSeed: () => number;
  /** Returns whether the server is stopping. A stopping server refuses new requests. */
  readonly isDraining: () => boolean;
  /** Aborts when the server stops and the time for requests that still run is over. */
  readonly stopping: AbortSignal;
  /** Called with the error that ended a streamed answer. */
  readonly onStreamError: (request: FastifyRequest, error: unknown) => void;
}

/** Facts about a request that its route collects for the access line. */
export interface Account {
  model: string | null;
  promptTokens: number;
  cachedTokens: number;
  completionTokens: number;
  firstTokenAt: number | null;
}

const accounts = new WeakMap<FastifyRequest, Account>();

/** Returns the facts for the access line that have been collected about a request so far. */
export function accountOf(request: FastifyRequest): Account {
  const account = accounts.get(request) ?? {
    model: null,
    promptTokens: 0,
    cachedTokens: 0,
    completionTokens: 0,
    firstTokenAt: null,
  };
  accounts.set(request, account);
  return account;
}

/** A request and its reply. */
export interface Exchange {
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
}

/**
 * Calls `end` when the answer has been sent or the client has disconnected. If one of these events has already
 * happened, calls `end` at once.
 */
export function whenClosed({ request, reply }: Exchange, end: () => void): void {
  const { socket } = request.raw;
  const onClose = (): void => {
    reply.raw.off('close', onClose);
    socket.off('close', onClose);
    end();
  };
  if (reply.raw.destroyed || socket.destroyed) {
    end();
    return;
  }
  reply.raw.once('close', onClose);
  // A reply to a pipelined request has no socket until the earlier replies are finished. If the client
  // disconnects before that, only the socket of the request closes.
  socket.once('close', onClose);
}

/** Returns a signal that aborts when the client disconnects before the answer is complete, or when the server stops. */
export function whileConnected(exchange: Exchange, stopping: AbortSignal): AbortSignal {
  const gone = new AbortController();
  whenClosed(exchange, () => {
    if (!exchange.reply.raw.writableFinished) {
      gone.abort(serveError('SERVE_CLIENT_GONE', 'the client has disconnected'));
    }
  });
  return AbortSignal.any([gone.signal, stopping]);
}
