import { Readable } from 'node:stream';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { listenOnLoopback, onlyLoopbackNames, requireToken } from '../../monitor/loopback-server.ts';
import { addMonitorRoutes } from '../../monitor/monitor-routes.ts';
import { addPageRoutes } from '../../monitor/page.ts';
import { digestSchema } from '../../protocol/ids.ts';
import { BLOB_RANGE_BYTES } from '../../protocol/limits.ts';
import { storageError } from '../../storage/errors.ts';
import { coordinatorError } from '../errors.ts';
import { webhookRoutes } from '../webhooks/routes.ts';
import { bundleRoutes } from './bundle-routes.ts';
import { checked } from './checked.ts';
import type { ApiDeps } from './deps.ts';
import { describeError } from './describe-error.ts';
import { inviteRoutes } from './invite-routes.ts';
import { jobRoutes } from './job-routes.ts';
import { peerRoutes } from './peer-routes.ts';
import { sweepRoutes } from './sweep-routes.ts';
import { tagRoutes } from './tag-routes.ts';

/** Maximum size of a request body. The largest body in practice, a job file with ten thousand paths, is smaller. */
export const API_BODY_BYTES = 1024 * 1024;

export interface ApiOptions {
  /** Port on 127.0.0.1; 0 for any free port. */
  readonly port: number;
  readonly token: string;
}

/**
 * Starts the control API. It listens on loopback only, and each request needs the bearer token. docs/protocol.md
 * describes the API, and types.ts has the types of its answers.
 * @throws SwarmError LISTEN_FAILED
 */
export async function startApi(
  options: ApiOptions,
  deps: ApiDeps,
): Promise<{ url: string; server: FastifyInstance }> {
  const answerError = (error: unknown, request: FastifyRequest, reply: FastifyReply): void => {
    const { status, body } = describeError(error);
    if (status === 500) deps.log.error({ url: request.url, error }, 'request-failed');
    void reply.code(status).send(body);
  };
  const server = Fastify({
    bodyLimit: API_BODY_BYTES,
    forceCloseConnections: true,
    // Answers requests that reach no route, for example because their path is malformed.
    frameworkErrors: answerError,
  });
  // The API parses only JSON. A web page of another origin can post text/plain and forms without a preflight request.
  // JSON needs a preflight request, and the API does not grant it.
  server.removeContentTypeParser('text/plain');
  onlyLoopbackNames(server);
  requireToken(server, options.token);
  addHeaders(server);
  server.setErrorHandler(answerError);
  server.setNotFoundHandler((request, reply) =>
    reply
      .code(404)
      .send(
        coordinatorError(
          'NOT_FOUND',
          `the API has no endpoint ${request.method} ${request.url.split('?')[0]}`,
          {},
          { next: 'docs/protocol.md lists the endpoints of the control API' },
        ).toJSON(),
      ),
  );
  addMonitorRoutes(server, deps);
  addPageRoutes(server);
  readRoutes(server, deps);
  peerRoutes(server, deps);
  jobRoutes(server, deps);
  bundleRoutes(server, deps);
  inviteRoutes(server, deps);
  sweepRoutes(server, deps);
  tagRoutes(server, deps);
  webhookRoutes(server, deps);
  server.post('/v1/shutdown', async (_request, reply) => {
    reply.raw.once('finish', () => deps.shutdown());
    return {};
  });
  const url = await listenOnLoopback(server, options.port);
  return { url, server };
}

function addHeaders(server: FastifyInstance): void {
  server.addHook('onSend', async (_request, reply) => {
    reply.header('cache-control', 'no-store').header('x-content-type-options', 'nosniff');
  });
}

function readRoutes(server: FastifyInstance, { views, blobs }: ApiDeps): void {
  server.get('/v1/status', async () => views.status());
  server.get<{ Params: { digest: string } }>('/v1/blobs/:digest', async ({ params }, reply) => {
    const digest = checked(digestSchema, params.digest, 'digest');
    const size = await blobs.size(digest);
    if (size === null)
      throw storageError('BLOB_MISSING', `the coordinator has no blob ${digest}`, { digest });
    const ranges = async function* (): AsyncGenerator<Uint8Array> {
      for (let at = 0; at < size; at += BLOB_RANGE_BYTES)
        yield await blobs.read(digest, at, BLOB_RANGE_BYTES);
    };
    reply.header('content-type', 'application/octet-stream').header('content-length', size);
    return reply.send(Readable.from(ranges(), { objectMode: false }));
  });
}
