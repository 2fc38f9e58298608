import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { withDeadline } from '../../common/time/deadline.ts';
import { serveError } from '../errors.ts';
import { chatRoutes } from './chats.ts';
import { completionRoutes } from './completions.ts';
import { accountOf, type RouteContext, type ServedRequest } from './context.ts';
import { errorAnswer } from './errors.ts';
import { BODY_BYTES } from './fields.ts';
import { modelRoutes } from './models.ts';
import { type TokenizerInfo, tokenRoutes } from './tokens.ts';

/**
 * Time in milliseconds in which a client must send its whole request. A connection of 0.6 Mbit/s can send 8 MiB in this
 * time.
 */
const REQUEST_MS = 120_000;

/**
 * Deadline for `generator.status()` in milliseconds. The process answers between two runs of the model, and a run can
 * take seconds.
 */
const STATUS_MS = 30_000;

export interface HttpServerDeps extends RouteContext {
  readonly tokenizerInfo: TokenizerInfo;
  /** Called with each request that has ended. */
  readonly onServed: (request: ServedRequest) => void;
  /** Returns the answer to `GET /metrics`. */
  readonly metrics: () => Promise<{ contentType: string; text: string }>;
}

/** Creates the HTTP server with all routes. It does not listen yet. */
export function createHttpServer(deps: HttpServerDeps): FastifyInstance {
  const { log, generator, isDraining, clock } = deps;
  const answerError = (error: unknown, request: FastifyRequest, reply: FastifyReply): void => {
    const { status, headers, body } = errorAnswer(error);
    if (status >= 500) log.error({ url: request.url, error }, 'request-failed');
    void reply.code(status).headers(headers).send(body);
  };
  const server = Fastify({
    bodyLimit: BODY_BYTES,
    requestTimeout: REQUEST_MS,
    forceCloseConnections: true,
    // Answers requests that reach no route, for example because their path is malformed.
    frameworkErrors: answerError,
  });
  // Only JSON is parsed, because a foreign web page can post text/plain and forms without a preflight request, but not
  // JSON.
  server.removeContentTypeParser('text/plain');
  server.addHook('onSend', async (_request, reply) => {
    reply.header('cache-control', 'no-store').header('x-content-type-options', 'nosniff');
  });
  reportServed(server, deps);
  deps.access.protect(server);
  server.setErrorHandler(answerError);
  server.setNotFoundHandler((request) => {
    const path = request.url.split('?')[0];
    throw serveError('SERVE_NO_ROUTE', `this server has no endpoint ${request.method} ${path}`, {});
  });
  server.get('/health', async (_request, reply) => {
    if (isDraining()) throw serveError('SERVE_STOPPING', 'the server is stopping');
    // Fails if the process that computes the model has died or does not answer.
    await withDeadline({ clock, ms: STATUS_MS, what: 'the state of the model' }, () => generator.status());
    return reply.send({ status: 'ok' });
  });
  server.get('/metrics', async (_request, reply) => {
    const { contentType, text } = await deps.metrics();
    return reply.header('content-type', contentType).send(text);
  });
  modelRoutes(server, deps);
  completionRoutes(server, deps);
  chatRoutes(server, deps);
  tokenRoutes(server, deps, deps.tokenizerInfo);
  return server;
}

/** Reports each request when its answer has been sent, or when its client has disconnected. */
function reportServed(server: FastifyInstance, { access, clock, onServed }: HttpServerDeps): void {
  server.addHook('onRequest', async (request, reply) => {
    const start = clock.monotonic();
    const client = access.clientOf(request);
    reply.raw.once('close', () => {
      const account = accountOf(request);
      const { model, promptTokens, cachedTokens, completionTokens, firstTokenAt } = account;
      onServed({
        method: request.method,
        path: request.url.split('?')[0]!,
        // As in nginx, 499 means that the client disconnected before the answer was complete.
        status: reply.raw.writableFinished ? reply.statusCode : 499,
        client,
        model,
        promptTokens,
        cachedTokens,
        completionTokens,
        firstTokenMs: firstTokenAt === null ? null : firstTokenAt - start,
        ms: clock.monotonic() - start,
      });
    });
  });
}
