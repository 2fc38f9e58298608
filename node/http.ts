import type { Registry } from '@prometheus-io/client';
import Fastify, { type FastifyInstance } from 'fastify';
import type { Health } from '../monitor/health.ts';
import { startMonitorRoutes } from '../monitor/routes.ts';
import type { NodeStatus } from './api-types.ts';

export interface NodeHttpOptions {
  /** 0 takes a free one. */
  port: number;
}

export interface NodeHttpDeps {
  health: Health;
  registry: Registry;
  status: () => NodeStatus;
}

/** Names under which this machine may be asked: a web page that points its own name here (DNS rebinding) has another. */
const HOSTS = ['127.0.0.1', 'localhost', '[::1]'];
/** Nothing here takes a body. */
const BODY_BYTES = 1024;

/** The node's HTTP server: read only, on the loopback interface. @returns its URL and how to close it */
export async function startNodeHttp(
  options: NodeHttpOptions,
  deps: NodeHttpDeps,
): Promise<{ url: string; server: FastifyInstance }> {
  const server = Fastify({ bodyLimit: BODY_BYTES, forceCloseConnections: true });
  server.addHook('onRequest', async (request, reply) => {
    const host = request.headers.host?.replace(/:\d+$/, '') ?? '';
    if (HOSTS.includes(host)) return;
    await reply
      .code(403)
      .send({ code: 'HOST_REFUSED', message: 'ask this machine by 127.0.0.1', values: {} });
  });
  startMonitorRoutes(server, deps);
  server.get('/v1/status', async (_request, reply) =>
    reply.header('cache-control', 'no-store').send(deps.status()),
  );
  const url = await server.listen({ host: '127.0.0.1', port: options.port });
  return { url, server };
}
