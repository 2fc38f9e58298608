import type { Registry } from '@prometheus-io/client';
import type { FastifyInstance } from 'fastify';
import type { Health } from './health.ts';

/**
 * Adds /healthz, /readyz and /metrics to a daemon's HTTP server. They need no token, because they show no peer, path or
 * secret. If a check fails, the answer has status 503 and lists the failing checks.
 */
export function addMonitorRoutes(
  server: FastifyInstance,
  deps: { health: Health; registry: Registry },
): void {
  for (const [path, kind] of [
    ['/healthz', 'live'],
    ['/readyz', 'ready'],
  ] as const) {
    server.get(path, { config: { isPublic: true } }, async (_request, reply) => {
      const report = await deps.health.report(kind);
      return reply
        .code(report.ok ? 200 : 503)
        .header('cache-control', 'no-store')
        .send(report);
    });
  }
  server.get('/metrics', { config: { isPublic: true } }, async (_request, reply) =>
    reply.header('content-type', deps.registry.contentType).send(await deps.registry.metrics()),
  );
}
