import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Clock } from '../../common/clock.ts';
import type { Logger } from '../../common/logger.ts';
import type { Generator } from '../../lora/generate/types.ts';
import type { Admission } from '../admission.ts';
import type { TokenTexts } from '../answers/token-texts.ts';
import type { ChatPrompts } from '../chat-prompt.ts';
import { serveError } from '../errors.ts';
import type { Catalog } from '../models/catalog.ts';
import type { Access } from './access.ts';

/** A request that has been answered, for access lines and metrics. */
export interface ServedRequest {
  readonly method: string;
  readonly path: string;
  readonly status: number;
  /** Client as limits count it: an address, or the position of its key. */
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
  /** null: the model has no chat template. */
  readonly prompts: ChatPrompts | null;
  readonly admission: Admission;
  readonly access: Access;
  readonly log: Logger;
  readonly clock: Clock;
  /** Returns a seed for requests that have none. */
  readonly randomSeed: () => number;
  /** Returns whether the server takes no new requests, because it stops. */
  readonly isDraining: () => boolean;
  /** Aborts when the time for the running requests is over. */
  readonly stopping: AbortSignal;
  /** Called with the error that ended a streamed answer. */
  readonly onStreamError: (request: FastifyRequest, error: unknown) => void;
}

/** Facts that a route adds to the access line of its request. */
export interface Account {
  model: string | null;
  promptTokens: number;
  cachedTokens: number;
  completionTokens: number;
  firstTokenAt: number | null;
}

const accounts = new WeakMap<FastifyRequest, Account>();

/** Returns the account of a request. */
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

/** Calls `end` when the answer has been sent or its client has disconnected: at once, if that has happened already. */
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
  // The reply to a pipelined request has no socket while an earlier reply is unfinished, so it would never close.
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
